"""`sandbox demo`: a few cells and commands in a sandbox, printed as they happen, so that a newcomer sees it work."""

from agent.sandbox.open import open_sandbox
from agent.settings import Settings

CELLS = [
    "import platform, os; print('Python', platform.python_version(), 'as uid', os.getuid(), 'in', os.getcwd())",
    "import torch; x = torch.randn(4, 4); round(float((x @ x.T).trace() - (x * x).sum()), 4)",
    "import pandas as pd; print(pd.DataFrame({'step': [1, 2, 3], 'loss': [2.1, 1.4, 0.9]}).to_string(index=False))",
    "import urllib.request; urllib.request.urlopen('http://example.com', timeout=5)",
    "1 / 0",
]


def run(settings: Settings) -> None:
    sandbox = open_sandbox(settings, metadata={"made-by": "demo"})
    try:
        print(f"sandbox {sandbox.id} ({sandbox.where.name})\n")
        for code in CELLS:
            print(f">>> {code}")
            cell = sandbox.run_cell(code, deadline=120, on_stdout=lambda out: print(out.line, end=""))
            if cell.execution.text:
                print(cell.execution.text)
            if cell.execution.error:
                print(f"{cell.execution.error.name}: {cell.execution.error.value}")
            print(f"    [{cell.end}, {cell.seconds:.2f} s]\n")
        line = "whoami; df -h /home/user | tail -1; ls /root 2>&1; cat /proc/1/environ | tr '\\0' '\\n'"
        code, out, err = sandbox.command(line)
        print(f"$ {line}\n{out}{err}    [exit code {code}]")
    finally:
        sandbox.close()
