"""Real usage under the eyes of the watch, each kind over its cap and under it."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.sandbox.embedded import watch
from agent.sandbox.embedded.jail import try_bwrap
from agent.sandbox.embedded.limits import MB, Cage, Limits
from tests.sandbox.attacks import DAEMON, PLAIN, PYTHON, in_child, needs_python

pytestmark = needs_python
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as another user")
NAME = f"watchtest-{os.getpid()}-"


def uncaged(name: str, **limits: object) -> Cage:
    return Cage(f"{NAME}{name}", Limits(**limits), None, "no cgroup")


def first_breach(add: Callable[[watch.Watch, watch.OnBreach], None], seconds: float) -> tuple[str, int, int] | None:
    """What a watch tells first, or None within the time."""

    async def look() -> tuple[str, int, int] | None:
        breach = asyncio.get_running_loop().create_future()
        one = watch.Watch()
        add(one, lambda *told: None if breach.done() else breach.set_result(told))
        task = asyncio.create_task(one.run())
        try:
            return await asyncio.wait_for(breach, seconds)
        except TimeoutError:
            assert not task.done()
            return None
        finally:
            task.cancel()

    return asyncio.run(look())


SPREAD = """
import os, sys, time
blocks = None
if sys.argv[2] == "before": blocks = b"x" * (int(sys.argv[1]) * 2**20)
for _ in range(3):
    if os.fork() == 0:
        if sys.argv[2] == "after": blocks = b"x" * (int(sys.argv[1]) * 2**20)
        print("up", flush=True)
        time.sleep(60)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("arguments", "limits", "kind"),
    [
        ((40, "after"), {"memory_mb": 100}, "memory"),
        ((40, "after"), {"memory_mb": 300}, None),
        ((60, "before"), {"memory_mb": 150}, None),  # one block that four processes share after the fork
        ((1, "after"), {"pids": 2}, "processes"),
        ((1, "after"), {"pids": 3}, None),
    ],
)
def test_the_watch_sees_a_tree_of_processes_over_its_cap(arguments, limits, kind):
    command = [PYTHON, "-I", "-c", SPREAD, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/")
    try:
        assert [process.stdout.readline() for _ in range(3)] == ["up\n"] * 3
        breach = first_breach(lambda one, tell: one.add_tree(uncaged("tree", **limits), process.pid, None, tell), 1.5)
        assert (breach and breach[0]) == kind
        if breach:
            assert breach[1] > breach[2]
        if arguments[1] == "before":
            processes = watch.snapshot()
            plain_sum = sum(processes[pid].rss for pid in watch.tree(processes, process.pid))
            assert plain_sum > 150 * MB
    finally:
        for pid in watch.tree(watch.snapshot(), process.pid):
            os.kill(pid, 9)
        process.communicate()


@needs_root
def test_the_watch_finds_the_orphans_of_a_user_even_undumpable_ones():
    hide = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n" + DAEMON
    drop = {"user": PLAIN, "group": PLAIN, "extra_groups": []}
    done = subprocess.run([PYTHON, "-I", "-c", hide], capture_output=True, text=True, cwd="/", **drop)
    orphan = int(done.stderr)
    try:
        assert Path(f"/proc/{orphan}/stat").stat().st_uid == 0
        assert orphan in watch.of_user(watch.snapshot(), PLAIN)
        assert orphan not in watch.tree(watch.snapshot(), os.getpid())
    finally:
        os.kill(orphan, 9)


def test_the_watch_tells_of_a_breach_once_until_it_is_mended():
    told = []
    entry = watch.Watched(uncaged("once"), lambda processes: set(), None, lambda *breach: told.append(breach))
    for used in (5, 11, 12, 5, 11):
        entry.check("disk", used, 10)
    assert told == [("disk", 11, 10), ("disk", 11, 10)]


def test_an_error_in_the_callback_does_not_end_the_watch(caplog):
    def fail(*breach: object) -> None:
        raise RuntimeError("broken")

    watch.Watched(uncaged("broken"), lambda processes: set(), None, fail).check("disk", 2, 1)
    assert "broken" in caplog.text


@pytest.mark.parametrize("kind", ["disk", "inodes", "hidden", None])
def test_the_watch_sees_a_home_over_its_cap(tmp_path, kind):
    (tmp_path / "file").write_bytes(os.urandom(2 * MB))
    if kind == "disk":
        (tmp_path / "more").write_bytes(os.urandom(3 * MB))
    if kind == "inodes":
        for n in range(40):
            (tmp_path / str(n)).touch()
    if kind == "hidden":
        _nest(tmp_path, watch.MAX_DEPTH + 5)
    cage = uncaged("home", disk_mb=4, inodes=30 if kind != "hidden" else 1000)
    breach = first_breach(lambda one, tell: one.add_tree(cage, 0, tmp_path, tell), 1.5)
    assert (breach and breach[0]) == kind
    assert cage.disk_seen >= 2 * MB or kind == "inodes"


FILES = "cd /tmp; i=0; while [ $i -lt $0 ]; do i=$((i + 1)); : > $i; done; echo up; exec sleep 60"


@pytest.mark.skipif(try_bwrap() is not None, reason="bubblewrap cannot run here")
@pytest.mark.parametrize(("count", "kind"), [(20, None), (120, "temporary files")])
def test_the_watch_sees_too_many_files_in_a_jails_temporary_folders(count, kind):
    jail = ["bwrap", "--unshare-user", "--unshare-pid", "--die-with-parent", "--ro-bind", "/usr", "/usr"]
    jail += ["--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"]
    jail += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", "--tmpfs", "/run", "--tmpfs", "/tmp"]
    process = subprocess.Popen([*jail, "/bin/sh", "-c", FILES, str(count)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "up\n"
        breach = first_breach(lambda one, tell: one.add_tree(uncaged("tmp", inodes=100), process.pid, None, tell), 1)
        assert (breach and breach[0]) == kind
    finally:
        process.kill()
        process.communicate()


def _nest(folder: Path, depth: int) -> None:
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)


def test_usage_follows_no_link_counts_hard_links_once_and_sees_holes(tmp_path):
    outside, home = tmp_path / "outside", tmp_path / "home"
    outside.mkdir()
    home.mkdir()
    (outside / "big").write_bytes(os.urandom(5 * MB))
    (home / "link").symlink_to(outside)
    (home / "file").write_bytes(os.urandom(MB))
    os.link(home / "file", home / "again")
    with (home / "hole").open("wb") as file:
        file.truncate(100 * MB)
    used = watch.usage(home, 50 * MB, 100)
    assert MB <= used.bytes < 2 * MB
    assert (used.inodes, used.hidden) == (3, 0)


@needs_root
def test_a_folder_closed_to_the_watcher_is_told(tmp_path):
    home = Path(f"/tmp/{NAME}home")
    home.mkdir()
    os.chown(home, PLAIN, PLAIN)

    def as_plain_user() -> None:
        os.setgroups([])
        os.setresgid(PLAIN, PLAIN, PLAIN)
        os.setresuid(PLAIN, PLAIN, PLAIN)
        (home / "closed").mkdir(mode=0o000)
        assert watch.usage(home, MB, 100).hidden == 1
        (home / "closed").rmdir()
        assert watch.usage(home, MB, 100).hidden == 0

    try:
        in_child(as_plain_user)
    finally:
        home.rmdir()


def test_usage_stops_as_soon_as_a_cap_is_over(tmp_path):
    for n in range(50):
        (tmp_path / str(n)).touch()
    assert watch.usage(tmp_path, MB, 10).inodes == 11
