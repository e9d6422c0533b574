"""Bombs go off inside: a sandbox may use up what it was given and nothing of the machine's. All are bounded here."""

import os
import shutil
import socket
import threading
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox

from agent.sandbox.embedded import cgroups
from tests.sandbox import leftovers

from .attack import Jailed, held_only_inside, inside, outside
from .raw import memory, start, tokens

FORKS = """
import time
pids = []
try:
    for _ in range(400):
        pid = os.fork()
        if pid == 0:
            time.sleep(30)
            os._exit(0)
        pids.append(pid)
finally:
    time.sleep(0.5)  # at the cap for longer than it takes to look
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
"""
THREADS = """
import threading, time
stop = threading.Event()
threading.stack_size(65536)
try:
    for _ in range(400):
        threading.Thread(target=stop.wait).start()
finally:
    time.sleep(0.5)
    stop.set()
"""
CROWD = """
import time
read, write = os.pipe()
pids = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        block = b"x" * (220 << 20)
        os.write(write, b"!")
        time.sleep(30)
        os._exit(0)
    pids.append(pid)
os.close(write)
try:
    held = 0
    while held < 4 and all(os.waitpid(pid, os.WNOHANG)[0] == 0 for pid in pids):
        held += len(os.read(read, 4))
    time.sleep(1)
    assert all(os.waitpid(pid, os.WNOHANG)[0] == 0 for pid in pids)
finally:
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
"""
FILL = """
import shutil, time
top = os.path.join(sys.argv[1], f"escape-{os.getpid()}")
os.mkdir(top)
try:
    for megabyte in range(int(sys.argv[2])):  # in files of 50 MB, which any cap on one file allows
        with open(f"{top}/{megabyte // 50}", "ab", buffering=0) as file:
            assert file.write(bytes(1 << 20)) == 1 << 20, "No space left"
    time.sleep(float(sys.argv[3]))
finally:
    shutil.rmtree(top)
"""
INODES = """
import shutil, time
top = os.path.join(sys.argv[1], f"escape-{os.getpid()}")
try:
    for folder in range(22):
        os.makedirs(f"{top}/{folder}")
        for name in range(10_000):
            os.mknod(f"{top}/{folder}/{name}")
    time.sleep(float(sys.argv[2]))
finally:
    shutil.rmtree(top)
"""
CORE = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
pid = os.fork()
if pid == 0:
    os.chdir(sys.argv[1])
    os.abort()
assert os.WCOREDUMP(os.waitpid(pid, 0)[1])
"""


@pytest.mark.parametrize("bomb", ["processes", "threads"])
def test_a_bomb_of_processes_stops_at_the_cap_and_costs_no_sandbox(jailed: Jailed, fresh: Sandbox, bomb: str) -> None:
    said = held_only_inside(jailed, FORKS if bomb == "processes" else THREADS, box=fresh)
    assert "ended" not in said
    assert fresh.run_code("6 * 7").text == "42"


def test_a_fork_bomb_leaves_the_server_and_other_sandboxes_at_work(jailed: Jailed, fresh: Sandbox) -> None:
    fresh.files.write("bomb.sh", "bomb() { bomb | bomb & }; bomb")
    fresh.commands.run("bash bomb.sh 2>/dev/null", background=True, timeout=0)
    for _ in range(5):
        assert jailed.box.run_code("6 * 7").text == "42"
    assert len(leftovers.processes(jailed.served)) < 600
    fresh.kill()
    leftovers.until_none(lambda: [line for line in leftovers.processes(jailed.served) if "bomb.sh" in line])


def test_one_large_block_of_memory_is_refused(jailed: Jailed, fresh: Sandbox) -> None:
    said = held_only_inside(
        jailed, "import mmap; mmap.mmap(-1, 3 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)", box=fresh
    )
    assert "Cannot allocate memory" in said
    assert fresh.run_code("6 * 7").text == "42"


def test_many_processes_cannot_hold_more_memory_together(jailed: Jailed, fresh: Sandbox) -> None:
    held_only_inside(jailed, CROWD, box=fresh)
    assert jailed.box.run_code("6 * 7").text == "42"


IN_FILES = """
files = [os.memfd_create("x") for _ in range(8)]
for file in files:
    for _ in range(100):
        os.write(file, bytes(1 << 20))
"""


def test_memory_kept_in_files_counts_too(jailed: Jailed, fresh: Sandbox) -> None:
    if not jailed.is_root or cgroups.find() is None:
        pytest.skip(
            "without a cgroup only mapped memory is watched: tmpfs sizes bound what lies there, nothing a memfd"
        )
    held_only_inside(jailed, IN_FILES, box=fresh)


@pytest.mark.slow
def test_a_temporary_folder_has_a_number_of_files(jailed: Jailed, fresh: Sandbox) -> None:
    if jailed.is_root and cgroups.find():
        pytest.skip("the cgroup counts the kernel's memory for them")
    assert "ended" in inside(fresh, INODES, "/tmp", 5, may_end=True)
    assert outside(INODES, "/dev/shm", 0, user=jailed.user) == "escaped"


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/run/sandbox"])
def test_a_temporary_folder_has_a_size(jailed: Jailed, fresh: Sandbox, folder: str) -> None:
    said = inside(fresh, FILL, folder, 300, 0)
    assert "No space left" in said, said
    assert outside(FILL, "/dev/shm" if folder == "/dev/shm" else "/tmp", 300, 0, user=jailed.user) == "escaped"
    assert fresh.run_code("6 * 7").text == "42"


def test_the_home_folder_has_a_size(jailed: Jailed, fresh: Sandbox) -> None:
    said = inside(fresh, FILL, "/home/user", 160, 4, may_end=True)
    assert "No space left" in said or (may_be_watched(jailed) and "ended" in said), said
    assert outside(FILL, jailed.planted["share"], 160, 0, user=jailed.user) == "escaped"


def may_be_watched(jailed: Jailed) -> bool:
    """Root mounts a disk image where it can; elsewhere a folder that grew too large ends its sandbox."""
    return not (jailed.is_root and shutil.which("mkfs.ext4") and os.path.exists("/dev/loop-control"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_home_folder_has_a_number_of_files(jailed: Jailed, fresh: Sandbox) -> None:
    said = inside(fresh, INODES, "/home/user", 25, may_end=True)  # a large tree is looked at the less often
    assert "No space left" in said or "ended" in said, said
    assert outside(INODES, jailed.planted["share"], 0, user=jailed.user) == "escaped"


def test_no_file_can_claim_more_than_the_disk(jailed: Jailed) -> None:
    """A hole takes no space, but programs that copy it do."""
    code = "with open(f'{sys.argv[1]}/hole', 'wb') as f:\n    try: f.truncate(1 << 40)\n    finally: os.unlink(f.name)"
    assert "File too large" in inside(jailed.box, code, "/home/user")
    assert "File too large" in inside(jailed.box, code, "/tmp")
    assert outside(code, jailed.planted["share"], user=jailed.user) == "escaped"


def test_open_files_end_at_a_number(jailed: Jailed) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
for _ in range(5000):
    os.dup(1)
"""
    held_only_inside(jailed, code, may_lack=True)


def test_a_crash_leaves_no_core(jailed: Jailed) -> None:
    assert inside(jailed.box, CORE, "/home/user").startswith("held")
    freely = outside(CORE, jailed.planted["share"], user=jailed.user)
    if freely != "escaped":
        pytest.skip(f"held inside, and this machine writes no cores either ({freely})")
    for path in Path(jailed.planted["share"]).glob("core*"):
        path.unlink()


def test_endless_output_fills_no_memory_of_the_server(jailed: Jailed, fresh: Sandbox) -> None:
    """One client reads and leaves, one never reads."""
    before = memory(jailed.served)
    size = 0
    flood = fresh.commands.run("yes 0123456789012345678901234567890123456789", background=True, timeout=0)
    for out, _, _ in flood:
        size += len(out or "")
        if size > 20_000_000:
            break
    flood.kill()
    with socket.create_connection(("127.0.0.1", int(jailed.served.url.rsplit(":", 1)[1])), 5) as deaf:
        deaf.sendall(start("yes 0123456789", **tokens(fresh)))
        threading.Event().wait(1.5)
        assert memory(jailed.served) - before < 32_000_000
    assert fresh.run_code("6 * 7").text == "42"
    assert os.path.exists(f"/proc/{jailed.served.process.pid}")
