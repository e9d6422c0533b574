"""A tour of the official E2B SDK: chart, DataFrame, background command, terminal, watch, big file, port.

It imports nothing but the SDK and runs unchanged against E2B cloud, a self-hosted E2B or
`python -m agent sandbox serve`: only E2B_API_URL, E2B_SANDBOX_URL and E2B_API_KEY differ.
"""

import io
import time

from e2b.sandbox.commands.command_handle import CommandExitException, PtySize
from e2b_code_interpreter import Sandbox

MB = 1024 * 1024


def until(condition, seconds: float = 10.0):
    """The condition's first true value; the SDK's synchronous watch and ports have nothing to wait on."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return value


def code(sandbox: Sandbox) -> None:
    sandbox.run_code("x = 20")
    lines: list[str] = []
    ran = sandbox.run_code("for i in range(3): print('line', i)\nx + 1", on_stdout=lambda out: lines.append(out.line))
    assert ran.text == "21" and "".join(lines) == "line 0\nline 1\nline 2\n", (ran, lines)
    failed = sandbox.run_code("1 / 0")
    assert failed.error and failed.error.name == "ZeroDivisionError" and "1 / 0" in failed.error.traceback
    print("code      ", ran.text, "|", failed.error.name)


def chart(sandbox: Sandbox) -> None:
    ran = sandbox.run_code("""
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [1, 4, 9], label="squares"); plt.title("growth"); plt.xlabel("n"); plt.legend(); plt.show()
""")
    drawn = ran.results[0]
    assert drawn.png and drawn.chart and drawn.chart.title == "growth", ran
    print("chart     ", drawn.chart.type, drawn.chart.title, len(drawn.png), "base64 characters of PNG")


def frame(sandbox: Sandbox) -> None:
    ran = sandbox.run_code("import pandas as pd; pd.DataFrame({'model': ['a', 'b'], 'loss': [0.5, 0.25]})")
    table = ran.results[0]
    assert table.html and table.data == {"model": ["a", "b"], "loss": [0.5, 0.25]}, table.data
    print("DataFrame ", table.data)


def commands(sandbox: Sandbox) -> None:
    ran = sandbox.commands.run("echo $GREETING from $(whoami); pwd", envs={"GREETING": "hello"})
    assert ran.stdout == "hello from user\n/home/user\n", ran.stdout
    try:
        sandbox.commands.run("echo oops >&2; exit 7")
        raise AssertionError("an exit code other than 0 must raise")
    except CommandExitException as failed:
        assert failed.exit_code == 7 and failed.stderr == "oops\n"
    loop = sandbox.commands.run("while read line; do echo got $line; done", background=True, stdin=True)
    sandbox.commands.send_stdin(loop.pid, "one\n")
    assert any(process.pid == loop.pid for process in sandbox.commands.list())
    first = next(out for out, _, _ in loop if out)
    assert first == "got one\n" and sandbox.commands.kill(loop.pid)
    print("commands  ", ran.stdout.split("\n")[0], "| background pid", loop.pid, "said", first.strip())


def terminal(sandbox: Sandbox) -> None:
    pty = sandbox.pty.create(PtySize(rows=24, cols=80))
    sandbox.pty.resize(pty.pid, PtySize(rows=40, cols=100))
    sandbox.pty.send_stdin(pty.pid, b"stty size; exit\n")
    seen = b"".join(data for _, _, data in pty if data)
    assert b"40 100" in seen, seen
    print("terminal   resized to 40 x 100")


def watch(sandbox: Sandbox) -> None:
    sandbox.files.make_dir("watched")
    handle = sandbox.files.watch_dir("watched")
    sandbox.files.write("watched/new.txt", "x")
    events = until(lambda: [event for event in handle.get_new_events() if event.name == "new.txt"])
    handle.stop()
    print("watch     ", events[0].type.value, events[0].name)


def big_file(sandbox: Sandbox) -> None:
    block = bytes(range(256)) * 4096
    sandbox.files.write("big.bin", io.BytesIO(block * 100))
    assert sandbox.files.get_info("big.bin").size == 100 * MB
    size = sum(len(part) for part in sandbox.files.read("big.bin", format="stream"))
    assert size == 100 * MB
    digest = sandbox.commands.run("sha256sum < big.bin").stdout.split()[0]
    print("big file  ", size // MB, "MB there and back, sha256", digest[:12])


def port(sandbox: Sandbox) -> None:
    sandbox.files.write("site/index.html", "served from inside")
    sandbox.commands.run("python -m http.server 8000 --directory site", background=True)
    until(lambda: sandbox.commands.run("grep -c ':1F40 .* 0A ' /proc/net/tcp || true").stdout.strip() == "1")
    print("port       http://" + sandbox.get_host(8000))


def main() -> None:
    with Sandbox.create(metadata={"tour": "yes"}, envs={"WHO": "you"}) as sandbox:
        print("sandbox   ", sandbox.sandbox_id)
        for stop in (code, chart, frame, commands, terminal, watch, big_file, port):
            stop(sandbox)
        assert sandbox.get_info().metadata == {"tour": "yes"}
    assert not sandbox.is_running()
    print("all held")


if __name__ == "__main__":
    main()
