"""The fallback tier: each attack runs as the same private user twice, bare and behind Landlock, and only the bare one
succeeds.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.sandbox.embedded import landlock, seccomp
from agent.sandbox.embedded.backends import Backend, probe, refusal_line
from tests.sandbox.attacks import PYTHON, Result, in_child, needs_python, needs_seccomp, run_command

pytestmark = [
    needs_python,
    needs_seccomp,
    pytest.mark.skipif(os.geteuid() != 0, reason="this tier is for a server run by root"),
]
needs_landlock = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")
UID = 64210
DROP = {"user": UID, "group": UID, "extra_groups": []}


@dataclass
class Ground:
    """A folder open to everyone with a home inside the wall and a file outside."""

    top: Path
    home: Path
    file: Path


@pytest.fixture
def ground() -> Iterator[Ground]:
    top = Path(tempfile.mkdtemp(prefix="landlock-", dir="/tmp"))
    ground = Ground(top, top / "home", top / "file")
    ground.home.mkdir()
    ground.file.write_text("secret")
    for path in (ground.home, ground.file):
        os.chown(path, UID, UID)
    top.chmod(0o777)
    yield ground
    landlock.kill_user(UID)
    shutil.rmtree(top)


def behind(ground: Ground, command: list[str]) -> Result:
    fd = seccomp.filter_fd(seccomp.filter_bytes_without_network())
    try:
        launch = landlock.command(UID, fd, command, rw=[ground.home])
        return run_command(launch, pass_fds=[fd], env={"PATH": "/usr/bin:/bin"})
    finally:
        os.close(fd)


def bare(command: list[str]) -> Result:
    return run_command(command, user=UID, env={"PATH": "/usr/bin:/bin"})


def python(code: str, *arguments: object) -> list[str]:
    return [PYTHON, "-I", "-c", code, *map(str, arguments)]


def only_bare(ground: Ground, command: list[str], says: str = "") -> None:
    inside = behind(ground, command)
    assert inside.returncode == 1, inside
    assert any(word in inside.stderr for word in ("Permission", "not permitted", "cross-device", "Errno")), inside
    outside = bare(command)
    assert outside.returncode == 0, outside
    assert says in outside.stdout


def shell(line: str) -> list[str]:
    return ["/bin/sh", "-c", f"{line} || exit 1"]


@needs_landlock
def test_this_tier_is_usable_for_root():
    assert landlock.usable() is None


@needs_landlock
def test_files_outside_can_be_neither_read_nor_changed(ground):
    only_bare(ground, shell(f"cat {ground.file}"), says="secret")
    only_bare(ground, shell(f"echo x >> {ground.file}"))
    only_bare(ground, shell(f"echo x > {ground.top}/made"))
    only_bare(ground, shell(f"ls {ground.top}"))
    only_bare(ground, shell(f"mv {ground.file} {ground.top}/moved"))
    only_bare(ground, shell(f"rm {ground.top}/moved"))
    only_bare(ground, shell(f"mkdir {ground.top}/folder"))
    only_bare(ground, python("import socket, sys; socket.socket(1).bind(sys.argv[1])", ground.top / "socket"))


@needs_landlock
def test_a_link_in_the_home_leads_nowhere(ground):
    (ground.home / "link").symlink_to(ground.file)
    only_bare(ground, shell(f"cat {ground.home}/link"), says="secret")
    if landlock.abi() >= 2:
        only_bare(ground, shell(f"ln {ground.file} {ground.home}/hard"))


@needs_landlock
def test_everyones_temporary_folders_are_closed(ground):
    for folder in ("/tmp", "/dev/shm"):
        only_bare(ground, shell(f"echo x > {folder}/landlock-{os.getpid()} && rm {folder}/landlock-{os.getpid()}"))


@needs_landlock
@pytest.mark.skipif(landlock.abi() < 3, reason="truncate by path is known to Landlock from ABI 3 on")
def test_a_file_outside_cannot_be_truncated(ground):
    only_bare(ground, python("import os, sys; os.truncate(sys.argv[1], 1)", ground.file))


@needs_landlock
def test_other_processes_stay_hidden(ground):
    other = subprocess.Popen(["/bin/sleep", "60"], env={"TOKEN": "hunter2"}, **DROP)
    try:
        only_bare(ground, shell(f"cat /proc/{other.pid}/environ"), says="hunter2")
        only_bare(ground, shell(f"cat /proc/{other.pid}/cmdline"), says="sleep")
        only_bare(ground, shell(f"ls /proc/{other.pid}/fd"))
        only_bare(ground, shell("ls /proc"), says=str(other.pid))
        only_bare(
            ground, python("import os, sys; print(os.readlink(sys.argv[1]))", f"/proc/{other.pid}/exe"), says="/bin/"
        )
    finally:
        other.kill()
        other.wait()


@needs_landlock
@pytest.mark.skipif(
    landlock.abi() < 6, reason="signals are scoped from ABI 6 on; below, only the private uid keeps them in"
)
def test_processes_of_the_same_user_outside_get_no_signal(ground):
    other = subprocess.Popen(["/bin/sleep", "60"], **DROP)
    try:
        only_bare(ground, python("import os, sys; os.kill(int(sys.argv[1]), 0)", other.pid))
        assert behind(ground, shell(f"kill -KILL {other.pid}")).returncode == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@needs_landlock
def test_processes_of_other_users_get_no_signal(ground):
    kill = python("import os, sys; os.kill(int(sys.argv[1]), 0)", os.getpid())
    assert behind(ground, kill).returncode == 1
    assert run_command(kill).returncode == 0


@needs_landlock
def test_settings_of_the_users_other_processes_cannot_be_turned(ground):
    other = subprocess.Popen(["/bin/sleep", "60"], **DROP)
    try:
        limit = "import resource, sys; resource.prlimit(int(sys.argv[1]), resource.RLIMIT_CPU)"
        only_bare(ground, python(limit, other.pid))
        only_bare(ground, python("import os, sys; os.setpriority(os.PRIO_PROCESS, int(sys.argv[1]), 19)", other.pid))
        only_bare(ground, python("import os; os.setpriority(os.PRIO_USER, 0, 19)"))
    finally:
        other.kill()
        other.wait()


@needs_landlock
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_there_is_no_network(ground, family, kind):
    with socket.socket(family, kind) as server:
        server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        if kind == socket.SOCK_STREAM:
            server.listen()
        host, port = server.getsockname()[:2]
        connect = "import socket, sys; f, k, h, p = sys.argv[1:]; socket.socket(int(f), int(k)).connect((h, int(p)))"
        only_bare(ground, python(connect, int(family), int(kind), host, port))


@needs_landlock
@pytest.mark.skipif(landlock.abi() < 4, reason="TCP is known to Landlock from ABI 4 on; seccomp refuses it in any case")
def test_landlock_alone_refuses_tcp_too(ground):
    def restricted() -> None:
        landlock.restrict([], [])
        with socket.socket() as client, pytest.raises(PermissionError):
            client.connect(("127.0.0.1", 9))
        with socket.socket() as server, pytest.raises(PermissionError):
            server.bind(("127.0.0.1", 0))

    in_child(restricted)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


@needs_landlock
@pytest.mark.skipif(landlock.abi() < 6, reason="abstract sockets are scoped from ABI 6 on")
def test_abstract_unix_sockets_outside_cannot_be_reached(ground):
    name = f"\0landlock-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        connect = "import socket, sys; socket.socket(1).connect(chr(0) + sys.argv[1])"
        only_bare(ground, python(connect, name[1:]))


WORK = """
import asyncio, os, multiprocessing, socket, sqlite3, subprocess, sys, tempfile, threading
home = sys.argv[1]
os.chdir(home)
assert os.getresuid() == (int(sys.argv[2]),) * 3 and os.getgroups() in ([], [int(sys.argv[2])])
os.makedirs("a/b"); open("a/b/file", "w").write("x"); os.rename("a/b/file", "a/file"); os.chmod("a/file", 0o755)
server = socket.socket(1); server.bind("kernel.sock"); server.listen()
socket.socket(1).connect("kernel.sock")
db = sqlite3.connect("db"); db.execute("create table t (n)"); db.commit()
os.environ["TMPDIR"] = home
tempfile.TemporaryFile().write(b"x")
asyncio.run(asyncio.sleep(0))
child = multiprocessing.get_context("fork").Process(target=len, args=([],)); child.start(); child.join()
assert child.exitcode == 0
process = subprocess.Popen(["/bin/sleep", "60"]); process.kill(); assert process.wait() == -9
open("/dev/null", "w").write("x"); assert os.urandom(1) and open("/dev/urandom", "rb").read(1)
assert os.cpu_count() >= 1 and open("/proc/meminfo").read()
print("fine")
"""


@needs_landlock
def test_ordinary_work_in_the_home_goes_on(ground):
    done = behind(ground, python(WORK, ground.home, UID))
    assert done.stdout == "fine\n", done.stderr


@needs_landlock
def test_root_is_given_up_for_good(ground):
    status = "import ctypes; libc = ctypes.CDLL(None); print(libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0))"
    assert behind(ground, python(status)).stdout == "1 2\n"  # no_new_privs, seccomp filter
    assert bare(python(status)).stdout == "0 0\n"
    assert behind(ground, python("import os; os.setuid(0)")).returncode == 1
    assert run_command(python("import os; os.setuid(0)")).returncode == 0


@needs_landlock
def test_the_filters_descriptor_is_closed_and_others_pass(ground):
    fd = seccomp.filter_fd(seccomp.filter_bytes_without_network())
    read, write = os.pipe()
    try:
        code = "import os, sys; os.write(int(sys.argv[1]), b'hello'); os.fstat(int(sys.argv[2]))"
        launch = landlock.command(UID, fd, python(code, write, fd), rw=[ground.home])
        done = run_command(launch, pass_fds=[fd, write], env={"PATH": "/usr/bin:/bin"})
        assert "Bad file descriptor" in done.stderr
        assert os.read(read, 10) == b"hello"
    finally:
        for one in (fd, read, write):
            os.close(one)


@needs_landlock
def test_all_processes_of_the_private_user_are_killed_in_one_step(ground):
    daemon = (
        "import os, signal, time; signal.signal(15, 1); os.setsid() if not os.fork() else os._exit(0); time.sleep(60)"
    )
    for _ in range(3):
        assert bare_background(daemon).returncode == 0
    bystander = subprocess.Popen(["/bin/sleep", "60"], user=UID + 1, group=UID + 1, extra_groups=[])
    try:
        assert len(processes_of(UID)) == 3
        landlock.kill_user(UID)
        deadline = time.monotonic() + 10
        while processes_of(UID) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert processes_of(UID) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    with pytest.raises(ValueError):
        landlock.kill_user(0)


def bare_background(code: str) -> Result:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "capture_output": False}
    return run_command(python(code), user=UID, **quiet)


def processes_of(uid: int) -> list[int]:
    from agent.sandbox.embedded import watch

    return [pid for pid in watch.of_user(watch.snapshot(), uid) if _running(pid)]


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@needs_landlock
def test_the_launched_process_dies_with_its_parent(ground):
    fd = seccomp.filter_fd(seccomp.filter_bytes_without_network())
    launch = landlock.command(UID, fd, ["/bin/sleep", "60"], rw=[ground.home])
    parent = subprocess.Popen(["/bin/sh", "-c", '"$@" & wait', "sh", *launch], pass_fds=[fd], cwd="/")
    os.close(fd)
    try:
        deadline = time.monotonic() + 10
        while not processes_of(UID) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(processes_of(UID)) == 1
    finally:
        parent.kill()
        parent.wait()
    while processes_of(UID) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes_of(UID) == []


@needs_landlock
def test_a_plain_user_is_refused_because_landlock_leaves_the_users_own_things_open(ground):
    """Why the tier demands root: chmod and named sockets of the same user are not covered."""
    loose = behind(ground, shell(f"chmod 0666 {ground.file}"))
    assert loose.returncode == 0, loose.stderr
    assert ground.file.stat().st_mode & 0o777 == 0o666

    def as_plain_user() -> None:
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
        landlock.usable.cache_clear()
        assert "plain user" in landlock.usable()

    in_child(as_plain_user)


def like_a_container(*more: tuple[str | int, int]) -> None:
    """Filter this process as container engines do: no new user namespace."""
    import pyseccomp

    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    flag = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, 0x10000000, 0x10000000)
    rules.add_rule(pyseccomp.ERRNO(1), "clone", flag)
    rules.add_rule(pyseccomp.ERRNO(1), "unshare", flag)
    rules.add_rule(pyseccomp.ERRNO(38), "clone3")
    for name, error in more:
        rules.add_rule(pyseccomp.ERRNO(error), name)
    rules.load()


def try_bwrap() -> str | None:
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed"
    fd = seccomp.filter_fd()
    try:
        command = ["bwrap", "--unshare-user", "--ro-bind", "/", "/", "--seccomp", str(fd), "/bin/true"]
        done = run_command(command, user=UID, pass_fds=[fd])
    finally:
        os.close(fd)
    return None if done.returncode == 0 else done.stderr.strip()


def test_bubblewrap_is_chosen_where_it_runs():
    if reason := try_bwrap():
        pytest.skip(reason)
    assert probe(try_bwrap) == Backend("bwrap")


@needs_landlock
def test_in_a_container_landlock_is_chosen_and_says_why():
    def contained() -> None:
        like_a_container()
        probe.cache_clear()
        backend = probe(try_bwrap)
        assert backend.name == "landlock"
        assert "namespace" in backend.reason or "installed" in backend.reason

    in_child(contained)


def test_in_a_container_without_landlock_the_refusal_names_three_ways_out():
    def contained() -> None:
        like_a_container((landlock.CREATE_RULESET, 38))
        probe.cache_clear()
        landlock.usable.cache_clear()
        backend = probe(try_bwrap)
        assert backend.name == "none"
        line = refusal_line(backend)
        assert "\n" not in line
        for words in ("bubblewrap", "E2B_API_KEY", "--unsafe-no-sandbox", "no Landlock"):
            assert words in line

    in_child(contained)


def test_the_choice_is_made_once_for_each_process():
    tried = []

    def fails() -> str:
        tried.append(1)
        return "no"

    assert probe(fails) is probe(fails)
    assert tried == [1]
