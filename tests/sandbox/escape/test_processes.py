"""A sandbox sees and signals only its own processes, and none of them outlives it, whatever it ignores."""

import os
import secrets
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox

from tests.sandbox import leftovers
from tests.sandbox.serving import serving

from .attack import Jailed, held_only_inside, inside
from .conftest import program
from .raw import server_pid

DAEMONS = {
    "setsid": "setsid -f python3 -c '{sleep}' {mark}",
    "nohup": "nohup python3 -c '{sleep}' {mark} >/dev/null 2>&1 & disown",
    "forked twice": "python3 -c 'import os; {fork}; os.setsid(); {fork}; {sleep}' {mark} &",
    "deaf": "setsid -f python3 -c 'from signal import *; [signal(n, SIG_IGN) for n in (1, 2, 15)]; {sleep}' {mark}",
    "holding the guest": "setsid -f python3 -c 'import os, signal; os.kill(2, signal.SIGSTOP); {sleep}' {mark}",
}
CODE = {"sleep": "import time; time.sleep(600)", "fork": "(os.fork() and os._exit(0))"}


def running(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if mark.encode() in line.split(b"\0") and state != "Z":
                found.append(int(folder.name))
    return found


def unleash(box: Sandbox, kind: str) -> str:
    """Start a daemon in the sandbox; returns the mark by which the host finds it."""
    mark = f"daemon-{secrets.token_hex(8)}"
    line = DAEMONS[kind].format(**CODE, mark=mark)
    if kind == "holding the guest":
        box.commands.run(f"(sleep 0.3; {line}) >/dev/null 2>&1 &")
    else:
        box.commands.run(f"({line}) >/dev/null 2>&1 </dev/null")
    end = time.monotonic() + 5
    while not running(mark):
        assert time.monotonic() < end, "the daemon did not start"
        time.sleep(0.02)
    return mark


@pytest.mark.parametrize("way", ["kill", "timeout"])
@pytest.mark.parametrize("kind", DAEMONS)
def test_no_daemon_outlives_its_sandbox(jailed: Jailed, kind: str, way: str) -> None:
    box = Sandbox.create(timeout=60, **jailed.served.options)
    mark = unleash(box, kind)
    if way == "kill":
        box.kill()
    else:
        box.set_timeout(0)
    try:
        leftovers.until_none(lambda: running(mark), 5)
    finally:
        end_all(mark)


def end_all(mark: str) -> None:
    for pid in running(mark):
        os.kill(pid, signal.SIGKILL)


def test_outside_a_daemon_does_outlive_who_started_it() -> None:
    """The control of the checks around it."""
    mark = f"daemon-{secrets.token_hex(8)}"
    for kind in ("setsid", "nohup", "forked twice", "deaf"):
        line = DAEMONS[kind].format(**CODE, mark=mark)
        parent = subprocess.Popen(
            ["bash", "-c", f"({line}) >/dev/null 2>&1 </dev/null; sleep 60"], start_new_session=True
        )
        end = time.monotonic() + 5
        while not running(mark):
            assert time.monotonic() < end
            time.sleep(0.02)
        parent.kill()
        parent.wait()
        try:
            time.sleep(0.2)
            assert running(mark), kind
        finally:
            end_all(mark)


def test_a_server_killed_by_force_leaves_no_daemon(jailed: Jailed) -> None:
    home = Path(tempfile.mkdtemp(prefix="escape-"))
    home.chmod(0o755)
    ordinary = not jailed.is_root and os.geteuid() == 0
    with serving(home, ordinary=ordinary, program=program()) as served:
        marks = []
        for kind in DAEMONS:
            marks.append(unleash(Sandbox.create(**served.options), kind))
        os.kill(server_pid(served), signal.SIGKILL)
        served.process.wait()
        try:
            leftovers.until_none(lambda: [pid for mark in marks for pid in running(mark)])
            leftovers.until_none(
                lambda: leftovers.processes(served) + leftovers.loops(served) + leftovers.mounts(served)
            )
        finally:
            for mark in marks:
                end_all(mark)
    with serving(home, ordinary=ordinary, program=program()) as served:
        assert Sandbox.create(**served.options).run_code("6 * 7").text == "42"
    subprocess.run(["rm", "-rf", str(home)], check=True)


@pytest.fixture
def victim(jailed: Jailed) -> subprocess.Popen:
    drop = {"user": jailed.user, "group": jailed.user, "extra_groups": []} if os.geteuid() == 0 else {}
    process = subprocess.Popen(["sleep", "60"], **drop)
    yield process
    process.kill()
    process.wait()


ON_OTHERS: dict[str, str] = {
    "a signal": "os.kill(int(sys.argv[1]), 0)",
    "a signal to the group": "os.killpg(os.getpgid(int(sys.argv[1])), 0)",
    "a pidfd": "import signal; signal.pidfd_send_signal(os.pidfd_open(int(sys.argv[1])), 0)",
    "its priority": "os.setpriority(os.PRIO_PROCESS, int(sys.argv[1]), 19)",
    "its limits": "import resource; resource.prlimit(int(sys.argv[1]), resource.RLIMIT_CORE)",
    "its scheduling": "os.sched_setaffinity(int(sys.argv[1]), os.sched_getaffinity(int(sys.argv[1])))",
    "its memory": "open(f'/proc/{sys.argv[1]}/mem', 'rb')",
    "its folder": "os.listdir(f'/proc/{sys.argv[1]}/cwd')",
    "its root": "os.listdir(f'/proc/{sys.argv[1]}/root')",
    "tracing": "call('ptrace', 0x4206, int(sys.argv[1]), 0, 0)",
    "its namespace": "os.close(os.open(f'/proc/{sys.argv[1]}/ns/mnt', os.O_RDONLY))",
}


@pytest.mark.parametrize("attack", ON_OTHERS)
def test_a_process_of_the_host_is_out_of_reach(jailed: Jailed, victim: subprocess.Popen, attack: str) -> None:
    held_only_inside(jailed, ON_OTHERS[attack], victim.pid)
    assert victim.poll() is None


def test_a_signal_to_everyone_reaches_nobody_else(jailed: Jailed, fresh: Sandbox, victim: subprocess.Popen) -> None:
    inside(fresh, "import signal; os.kill(-1, signal.SIGKILL)", may_end=True)
    assert victim.poll() is None
    assert jailed.box.run_code("6 * 7").text == "42"
    assert jailed.other.commands.run("pgrep -f the-other-one").stdout


def test_only_the_sandboxs_own_processes_are_listed(jailed: Jailed, victim: subprocess.Popen) -> None:
    code = "assert len([name for name in os.listdir('/proc') if name.isdigit()]) > 30"
    assert inside(jailed.box, code).startswith("held")
    seen = {int(name) for name in jailed.box.commands.run("ls /proc").stdout.split() if name.isdigit()}
    assert max(seen) < 20_000 and 1 in seen


def test_a_killed_guest_ends_the_sandbox_and_nothing_takes_its_place(jailed: Jailed) -> None:
    """Code may kill the program that serves its sandbox; it cannot then pose as a sandbox that still runs."""
    box = Sandbox.create(**jailed.served.options)
    mark = unleash(box, "deaf")
    inside(box, "import signal; os.kill(2, signal.SIGKILL)", may_end=True)
    end = time.monotonic() + 5
    while box.is_running():
        assert time.monotonic() < end
    leftovers.until_none(lambda: running(mark))
