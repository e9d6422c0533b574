"""The embedded sandbox server beside bare processes: latencies, start, throughput, memory.

`python -m benchmarks.sandbox`. Every ratio is against a baseline measured in the same run; nothing leaves the machine.
Run it on an idle machine: the absolute bars are for two cores.
"""

import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2b_code_interpreter import Sandbox
from jupyter_client.manager import KernelManager, start_new_kernel

from agent.sandbox import daemon
from agent.settings import load_settings
from benchmarks.table import Row, median, seconds, show

MB = 1024 * 1024


class Server:
    """An embedded server of its own, gone after the block."""

    def __init__(self, pool: int):
        self.pool = pool

    def __enter__(self) -> "Server":
        self.home = Path(tempfile.mkdtemp(prefix="bench-"))
        self.home.chmod(0o755)
        address = daemon.ensure(load_settings(home=str(self.home), sandbox_pool=self.pool, sandbox="embedded"))
        self.options = {"api_key": address.key, "api_url": address.url, "sandbox_url": address.url}
        told = daemon.root(load_settings(home=str(self.home))) / "server.json"
        self.pid = __import__("json").loads(told.read_text())["pid"]
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, 15)
        while Path(f"/proc/{self.pid}").exists() and not is_zombie(self.pid):
            time.sleep(0.05)
        shutil.rmtree(self.home, ignore_errors=True)

    def create(self) -> Sandbox:
        return Sandbox.create(**self.options)

    def growth(self, work) -> int:  # type: ignore[no-untyped-def]
        """By how much the server's peak memory rises above what it holds now, while `work` runs."""
        status = Path(f"/proc/{self.pid}/status")

        def field(name: str) -> int:
            lines = status.read_text().splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        before = field("VmRSS")
        work()
        return field("VmHWM") - before


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def bare_kernel_start() -> None:
    """A Jupyter kernel without any sandbox: start to first result."""
    manager, client = start_new_kernel(kernel_name="python3")
    client.execute_interactive("1+1", output_hook=lambda _: None)
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def bare_kernel_seconds() -> float:
    manager = KernelManager(kernel_name="python3")
    started = time.perf_counter()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    client.execute_interactive("1+1", output_hook=lambda _: None)
    passed = time.perf_counter() - started
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return passed


def latencies(server: Server) -> list[Row]:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        with server.create() as sandbox:
            bare = median(lambda: client.execute_interactive("1+1", output_hook=lambda _: None), 100, warm=10)
            ours = median(lambda: sandbox.run_code("1+1"), 100, warm=10)
            command = median(lambda: sandbox.commands.run("true"), 50, warm=5)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return [
        Row("run_code('1+1'), warm, median", ours / bare, "x", 4, "a bare jupyter_client round trip"),
        Row("run_code('1+1'), warm, median", ours * 1000, "ms", 20),
        Row("commands.run('true'), median", command * 1000, "ms", 25),
    ]


def starts() -> list[Row]:
    """Bare, cold and warm in turn, so that a drift of the machine's speed hits all three."""
    bare, cold, warm = [], [], []

    def first_result(server: Server) -> float:
        started = time.perf_counter()
        sandbox = server.create()
        sandbox.run_code("1+1")
        passed = time.perf_counter() - started
        sandbox.kill()
        return passed

    with Server(pool=0) as without, Server(pool=1) as with_pool:
        first_result(without), first_result(with_pool)
        for _ in range(7):
            bare.append(bare_kernel_seconds())
            cold.append(first_result(without))
            wait_for_warm(with_pool)
            warm.append(first_result(with_pool))
    base = statistics.median(bare)
    note = f"(baseline {base * 1000:.0f} ms)"
    return [
        Row("create to first result, warm pool", statistics.median(warm) / base, "x", 0.15, "a bare kernel's", note),
        Row("create to first result, cold", statistics.median(cold) / base, "x", 1.6, "a bare kernel's start"),
    ]


def wait_for_warm(server: Server) -> None:
    """Until a warm sandbox is ready: its folder's guest has a home, and the machine is quiet again."""
    calm = 0
    while calm < 5:
        before = sum(os.times()[:4]), Path("/proc/stat").read_text().split("\n")[0].split()[1:4]
        time.sleep(0.1)
        after = Path("/proc/stat").read_text().split("\n")[0].split()[1:4]
        busy = sum(int(b) - int(a) for a, b in zip(before[1], after, strict=True))
        calm = calm + 1 if busy <= 2 else 0


def big_file(server: Server) -> list[Row]:
    data = os.urandom(100 * MB)
    source, target = server.home / "source.bin", server.home / "target.bin"
    source.write_bytes(data)

    def dd() -> None:
        write = ["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fdatasync"]
        subprocess.run(write, check=True, capture_output=True)
        subprocess.run(["dd", f"if={target}", "of=/dev/null", "bs=1M"], check=True, capture_output=True)

    with server.create() as sandbox:

        def ours() -> None:
            sandbox.files.write("big.bin", io.BytesIO(data))
            assert sum(len(part) for part in sandbox.files.read("big.bin", format="stream")) == len(data)

        pairs = [(seconds(ours), seconds(dd)) for _ in range(6)][1:]
        grown = server.growth(ours)
        assert sandbox.files.read("big.bin", format="bytes") == data
    ratio = statistics.median(a / b for a, b in pairs)
    return [
        Row("100 MB through files, write and read", ratio, "x", 3, "dd (fdatasync) to the same disk and back"),
        Row("100 MB through files, server memory grows", grown / MB, "MB", 32),
    ]


def much_output(server: Server) -> list[Row]:
    count = 50 * MB // 64
    code = f"for n in range({count}): print(f'{{n:063d}}')"
    got: list[str] = []
    with server.create() as sandbox:
        grown = server.growth(lambda: sandbox.run_code(code, on_stdout=lambda out: got.append(out.line), timeout=0))
    lines = "".join(got).split("\n")
    wrong = sum(line != f"{n:063d}" for n, line in enumerate(lines[:count])) + abs(len(lines) - 1 - count)
    return [
        Row("50 MB of stdout, lines lost or out of order", wrong, "", 0),
        Row("50 MB of stdout, server memory grows", grown / MB, "MB", 64),
    ]


def twenty(server: Server) -> list[Row]:
    sandboxes = list(ThreadPoolExecutor(4).map(lambda _: server.create(), range(20)))
    try:

        def cells(number: int) -> bool:
            sandbox = sandboxes[number]
            sandbox.run_code(f"x = {number}")
            return all(sandbox.run_code(f"x * {n}").text == str(number * n) for n in range(5))

        with ThreadPoolExecutor(20) as pool:
            right = sum(pool.map(cells, range(20)))
        unshared = private_memory(server.pid)
    finally:
        for sandbox in sandboxes:
            sandbox.kill()
    return [
        Row("20 sandboxes at once, wrong", 20 - right, "", 0),
        Row("20 sandboxes at once, unshared memory each", unshared / 20 / MB, "MB", 80),
    ]


def private_memory(server_pid: int) -> float:
    """Pages of all processes below the server, each page counted once among those who share it (PSS), less what one
    sandbox would share with processes outside: the files of the interpreter."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    total, todo = 0, list(children.get(server_pid, []))
    while todo:
        pid = todo.pop()
        todo += children.get(pid, [])
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))
    return total


def main() -> int:
    rows = starts()
    with Server(pool=1) as server:
        rows = latencies(server) + rows + big_file(server) + much_output(server) + twenty(server)
    return show("sandbox", rows)


if __name__ == "__main__":
    sys.exit(main())
