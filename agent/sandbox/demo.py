"""`sandbox demo`: cells, a deadline, files and commands in a sandbox, printed as they happen, so that a newcomer sees
what it does and where its walls are.
"""

import time

from agent.sandbox.open import Sandbox, open_sandbox
from agent.settings import Settings

CELLS = [
    (
        "code runs, as nobody you know",
        "import os, platform\nf'Python {platform.python_version()}, uid {os.getuid()}, {os.getcwd()}'",
    ),
    (
        "one step of training",
        "import torch\n"
        "w = torch.zeros(3, requires_grad=True)\n"
        "loss = ((torch.randn(64, 3) @ (w - 1)) ** 2).mean(); loss.backward()\n"
        "print(f'loss {loss.item():.3f}, gradient norm {w.grad.norm():.3f}')",
    ),
    (
        "tables",
        "import pandas as pd\nprint(pd.DataFrame({'step': [1, 2, 3], 'loss': [2.1, 1.4, 0.9]}).to_string(index=False))",
    ),
    (
        "the network is closed but for named hosts",
        "import urllib.request\nurllib.request.urlopen('http://example.com', timeout=5)",
    ),
]
COMMANDS = [
    ("your files are not there", "ls -A /home /home/user"),
    ("nor is your environment", "cat /proc/1/environ | tr '\\0' '\\n'"),
    ("nor are your processes", "ps -eo pid,user,comm | head -8"),
]


def run(settings: Settings) -> None:
    started = time.monotonic()
    print("Opening a sandbox …", flush=True)
    sandbox = open_sandbox(settings, metadata={"made-by": "demo"})
    try:
        print(f"{sandbox.id} ({sandbox.where.name}), {time.monotonic() - started:.1f} s")
        for title, code in CELLS:
            show(sandbox, title, code)
        show(sandbox, "a deadline of one second stops a cell", "kept = 42\nwhile True: pass", deadline=1)
        show(sandbox, "and its variables are still there", "kept")
        sandbox.remote.files.write("notes/hello.txt", "written from outside\n")
        for title, line in [("files go in and out", "cat notes/hello.txt"), *COMMANDS]:
            heading(title)
            print(f"$ {line}")
            _, out, err = sandbox.command(line)
            print(out + err, end="")
    finally:
        sandbox.close()
    print(f"\nThe sandbox is gone, with all that ran in it. {time.monotonic() - started:.1f} s in all.")


def show(sandbox: Sandbox, title: str, code: str, deadline: float = 60) -> None:
    heading(title)
    print(">>> " + code.replace("\n", "\n... "))
    cell = sandbox.run_cell(code, deadline=deadline, on_stdout=lambda out: print(out.line, end="", flush=True))
    if cell.execution.text:
        print(cell.execution.text)
    if cell.execution.error:
        print(f"{cell.execution.error.name}: {cell.execution.error.value}".rstrip(": "))
    print(f"    [{cell.end}, {cell.seconds:.2f} s]")


def heading(title: str) -> None:
    print(f"\n# {title}")
