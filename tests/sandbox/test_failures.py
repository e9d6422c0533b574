"""What breaks is told, mended where it can be, and leaves nothing behind."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from e2b import NotEnoughSpaceException, SandboxException, TimeoutException
from e2b_code_interpreter import Sandbox

from . import leftovers
from .serving import Served, serving


def test_a_killed_kernel_is_reported_and_replaced(sandbox: Sandbox) -> None:
    sandbox.run_code("x = 1")
    died = sandbox.run_code("import os; os.kill(os.getpid(), 9)")
    assert died.error and died.error.name == "ContextRestarting"
    after = sandbox.run_code("'x' in globals()")
    assert after.text == "False"


def jail_pids(served: Served) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if line.startswith("bwrap") and leftovers.mark(served) in line:
                found.append(int(folder.name))
    return found


def test_a_killed_jail_is_a_sandbox_that_is_gone(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as served:
        sandbox = Sandbox.create(**served.options)
        for pid in jail_pids(served):
            os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 5
        while sandbox.is_running():
            assert time.monotonic() < end
        with pytest.raises((TimeoutException, SandboxException)):
            sandbox.run_code("1")
        assert Sandbox.create(**served.options).run_code("1 + 1").text == "2"


def test_a_jail_killed_in_mid_cell_ends_the_cell(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as served:
        sandbox = Sandbox.create(**served.options)

        def shoot(_: object) -> None:
            for pid in jail_pids(served):
                os.kill(pid, signal.SIGKILL)

        started = time.monotonic()
        with pytest.raises(Exception, match=r"(?i)sandbox|killed|connection|reading"):
            sandbox.run_code("print('up', flush=True); import time; time.sleep(60)", on_stdout=shoot)
        assert time.monotonic() - started < 10


def test_a_server_killed_with_sigkill_leaves_no_process_mount_or_loop(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as served:
        made = [Sandbox.create(**served.options) for _ in range(3)]
        for sandbox in made:
            sandbox.commands.run("setsid nohup sleep 1000 >/dev/null 2>&1 &")
        assert leftovers.processes(served)
        served.process.kill()
        served.process.wait()
        leftovers.until_none(lambda: leftovers.processes(served))
        leftovers.until_none(lambda: leftovers.loops(served) + leftovers.mounts(served))
    with serving(tmp_path / "home") as served:  # the next start sweeps the folders and cgroups
        left = leftovers.everything(served)
        assert len(left.get("folders", [])) <= 1, left  # the warm one's own
        assert len(left.get("cgroups", [])) <= 8, left
        assert Sandbox.create(**served.options).run_code("1 + 1").text == "2"
    leftovers.until_none(lambda: leftovers.everything(served))


def test_a_stopped_server_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as served:
        Sandbox.create(**served.options).run_code("1")
    assert leftovers.everything(served) == {}


def test_a_full_disk_is_told_and_ends_nothing_else(tmp_path: Path) -> None:
    with serving(tmp_path / "home", MODELSMITH_SANDBOX_DISK_MB="64") as served:
        sandbox = Sandbox.create(**served.options)
        with pytest.raises(NotEnoughSpaceException):
            sandbox.files.write("big.bin", b"\1" * 100_000_000)
        assert not sandbox.files.exists("big.bin")
        full = sandbox.run_code("open('fill', 'wb').write(bytes(100_000_000))")
        assert full.error and "space" in full.error.value
        assert sandbox.run_code("import os; os.remove('fill'); 'alive'").text == "alive"


def test_an_ordinary_users_sandbox_ends_when_it_passes_its_disk_cap(home: Path) -> None:
    """Without root there is no disk to be full: one file is capped by the kernel, all of them together are watched."""
    with serving(home, ordinary=True, MODELSMITH_SANDBOX_DISK_MB="64") as served:
        sandbox = Sandbox.create(**served.options)
        large = sandbox.run_code("open('fill', 'wb').write(bytes(100_000_000))")
        assert large.error and "too large" in large.error.value
        with suppress(SandboxException, TimeoutException):
            sandbox.run_code("for n in range(4): open(f'f{n}', 'wb').write(bytes(30_000_000))")
        end = time.monotonic() + 15
        while sandbox.is_running():
            assert time.monotonic() < end
            time.sleep(0.1)
        assert "disk" in served.log()


def test_ending_while_a_cell_runs_stops_it_at_once(served: Served) -> None:
    import threading

    sandbox = Sandbox.create(**served.options)
    started = time.monotonic()
    threading.Timer(0.5, sandbox.kill).start()
    with pytest.raises(Exception, match=r"(?i)sandbox|killed|connection|reading"):
        sandbox.run_code("import time; time.sleep(60)")
    assert time.monotonic() - started < 8


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_sandboxes_come_and_go_without_a_leak(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as served:
        folder = Path(f"/proc/{served.process.pid}")

        def size() -> tuple[int, int]:
            pages = int((folder / "statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE"), len(list((folder / "fd").iterdir()))

        def cycle() -> None:
            with Sandbox.create(**served.options) as sandbox:
                assert sandbox.run_code("21 * 2").text == "42"

        for _ in range(20):
            cycle()
        memory, files = size()
        for _ in range(180):
            cycle()
        grown, files_after = size()
        assert grown - memory < 16 * 1024 * 1024
        assert files_after <= files + 8
    assert leftovers.everything(served) == {}
