"""Bombs against the cage, and real usage under the eyes of the watch. All bombs are bounded, also where nothing stops
them.
"""

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.sandbox.embedded import cgroups, watch
from agent.sandbox.embedded.limits import MB, Cage, Limits, rlimits, sweep
from tests.sandbox.attacks import PLAIN, PYTHON, Result, in_child, needs_python, run_command

pytestmark = needs_python
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as another user")
needs_cgroups = pytest.mark.skipif(cgroups.find() is None, reason="no cgroup can be made on this machine")
NAME = f"cagetest-{os.getpid()}-"

ALLOCATE = "import sys; block = b'x' * (int(sys.argv[1]) * 2**20); print('had it')"
FORK = """
import os, sys, time
children = []
for _ in range(int(sys.argv[1])):
    try: pid = os.fork()
    except OSError: break
    if pid == 0: time.sleep(60); os._exit(0)
    children.append(pid)
print(len(children))
for pid in children: os.kill(pid, 9)
"""
DAEMON = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.dup2(os.open("/dev/null", os.O_RDWR), 1)
print(os.getpid(), file=sys.stderr, flush=True)
os.dup2(1, 2)
time.sleep(60)
"""
BURN = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"


@pytest.fixture
def cage() -> Iterator[Callable[..., Cage]]:
    made: list[Cage] = []

    def make(**limits: object) -> Cage:
        made.append(Cage.open(f"{NAME}{len(made)}", Limits(**limits)))
        return made[-1]

    yield make
    for one in made:
        assert one.remove()


def start(cage: Cage | None, code: str, *arguments: object) -> subprocess.Popen[str]:
    script = f'{cage.enter_script() if cage else ""}\nexec "$@"'
    command = ["/bin/sh", "-c", script, "sh", PYTHON, "-I", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")


def finish(cage: Cage | None, code: str, *arguments: object) -> Result:
    process = start(cage, code, *arguments)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def holding(cage: Cage, kind: str) -> Cage:
    if kind not in cage.holds:
        pytest.skip(f"no {kind} controller can be had here")
    return cage


@needs_cgroups
def test_a_memory_bomb_dies_in_the_cage_and_nowhere_else(cage):
    small = holding(cage(memory_mb=64), "memory")
    assert finish(small, ALLOCATE, 300).returncode == -9
    assert small.oom_kills() == 1
    assert finish(None, ALLOCATE, 300).stdout == "had it\n"
    assert finish(cage(memory_mb=400), ALLOCATE, 300).stdout == "had it\n"


@needs_cgroups
def test_many_small_allocations_share_one_cap(cage):
    hold = "import sys, time; block = b'x' * (40 * 2**20); print('had it', flush=True); time.sleep(60)"
    for memory_mb, survivors in ((100, range(1, 3)), (400, range(4, 5))):
        shared = holding(cage(memory_mb=memory_mb), "memory")
        processes = [start(shared, hold) for _ in range(4)]
        said = [process.stdout.readline() for process in processes]  # an empty line from those that were killed
        assert all(line in ("had it\n", "") for line in said)
        assert sum(process.poll() is None for process in processes) in survivors
        if memory_mb == 400:
            assert 160 * MB < shared.memory() < 400 * MB
        shared.kill_all()
        for process in processes:
            process.communicate(timeout=10)


@needs_cgroups
def test_swap_is_no_way_round_the_memory_cap(cage):
    group = holding(cage(memory_mb=64), "memory").group
    if isinstance(group, cgroups.UnifiedGroup):
        swap = group.folder / "memory.swap.max"
        assert not swap.exists() or swap.read_text() == "0\n"
    else:
        folder = group.by_controller["memory"]
        together = folder / "memory.memsw.limit_in_bytes"
        assert int(together.read_text()) == 64 * MB if together.exists() else "0\n"


@needs_cgroups
def test_a_fork_bomb_stops_at_the_cap(cage):
    small = holding(cage(pids=20), "pids")
    assert int(finish(small, FORK, 60).stdout) == 19
    assert int(finish(None, FORK, 60).stdout) == 60


@needs_cgroups
def test_the_cpu_quota_holds(cage):
    fifth = holding(cage(cpus=0.2), "cpu")
    free = cage()
    capped, uncapped = start(fifth, BURN), start(free, BURN)
    try:
        assert _share(fifth, lambda share: False) < 0.3
        assert _share(free, lambda share: share > 0.3) > 0.3
    finally:
        for process in (capped, uncapped):
            process.kill()
            process.communicate()


def _share(cage: Cage, enough: Callable[[float], bool]) -> float:
    """The largest part of a core used in a window of 0.5 s, over up to 6 of them."""
    best, windows = 0.0, 0
    while windows < 6 and not enough(best):
        began, used = time.monotonic(), cage.cpu_seconds()
        time.sleep(0.5)
        best = max(best, (cage.cpu_seconds() - used) / (time.monotonic() - began))
        windows += 1
    return best


@needs_cgroups
def test_daemons_do_not_outlive_their_cage(cage):
    caged, free = finish(cage(), DAEMON), finish(None, DAEMON)
    inside, outside = int(caged.stderr), int(free.stderr)
    try:
        assert alive(inside) and alive(outside)
        one = cage()
        one.add(inside)
        one.kill_all()
        assert not alive(inside)
        assert alive(outside)
    finally:
        os.kill(outside, 9)


@needs_cgroups
def test_a_cage_with_processes_in_it_is_removed_with_them():
    one = Cage.open(f"{NAME}full", Limits())
    daemon = int(finish(one, DAEMON).stderr)
    assert alive(daemon)
    assert one.remove()
    assert not alive(daemon)
    assert not any(folder.exists() for folder in one.group.folders)


@needs_cgroups
def test_sweep_removes_what_an_earlier_server_left_and_nothing_else():
    left = [Cage.open(f"{NAME}left-{n}", Limits()) for n in range(2)]
    other = Cage.open(f"{NAME}other", Limits())
    daemons = [int(finish(one, DAEMON).stderr) for one in (*left, other)]
    try:
        assert sweep(f"{NAME}left-") == 2
        assert [alive(daemon) for daemon in daemons] == [False, False, True]
        assert sweep(f"{NAME}left-") == 0
    finally:
        assert other.remove()
    with pytest.raises(ValueError):
        sweep("")


@needs_cgroups
def test_a_frozen_cage_uses_no_cpu_until_it_is_thawed(cage):
    one = cage()
    process = start(one, BURN)
    while not one.cpu_seconds():
        time.sleep(0.01)
    assert one.freeze()
    time.sleep(0.1)  # v1 freezes in its own time
    before = one.cpu_seconds()
    time.sleep(0.3)
    assert one.cpu_seconds() - before < 0.05
    one.thaw()
    while one.cpu_seconds() - before < 0.05:
        time.sleep(0.01)
    one.kill_all()
    process.communicate()


@needs_root
def test_without_a_cgroup_the_cage_says_what_is_only_watched():
    def as_plain_user() -> None:
        cgroups.find.cache_clear()
        os.setgroups([])
        os.setresgid(PLAIN, PLAIN, PLAIN)
        os.setresuid(PLAIN, PLAIN, PLAIN)
        cage = Cage.open("nothing", Limits(memory_mb=100, pids=10, cpus=2))
        assert cage.holds == frozenset()
        assert cage.enter_script() == ""
        assert cage.describe() == "not held, only watched: 100 MB memory, 10 processes, 2 cores"
        cage.add(os.getpid())
        cage.kill_all()
        assert (cage.memory(), cage.cpu_seconds(), cage.oom_kills()) == (None, None, 0)
        assert cage.remove()

    in_child(as_plain_user)


@needs_root
@pytest.mark.parametrize(
    ("attack", "caps", "held", "free"),
    [
        ((FORK, 40), {"pids": 12}, "11\n", "40\n"),
        ((ALLOCATE, 200), {"memory_mb": 100}, "", "had it\n"),
        (
            ("f = open('/tmp/{name}', 'wb'); f.write(bytes(3 * 2**20)); print(f.tell())",),
            {"file_mb": 2},
            "",
            "3145728\n",
        ),
        (("import os; print(len([os.open('/', 0) for _ in range(4100)]))",), {}, "", "4100\n"),
    ],
    ids=["processes", "data", "file size", "open files"],
)
def test_rlimits_hold_a_plain_user(attack, caps, held, free):
    code, *arguments = attack
    file = Path(f"/tmp/{NAME}file")
    code = code.format(name=file.name) if "{name}" in code else code
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if free == "4100\n" and most < 5000:
        pytest.skip("this machine's own cap on open files is lower than ours")
    for limits, expected in ((rlimits(Limits(**caps)), held), ([f"--nofile={min(5000, most)}:{most}"], free)):
        command = ["prlimit", *limits, PYTHON, "-I", "-c", code, *map(str, arguments)]
        drop = {"user": PLAIN, "group": PLAIN, "extra_groups": []}
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, **drop)
        file.unlink(missing_ok=True)
        assert done.stdout == expected, done.stderr


@needs_root
def test_rlimits_never_ask_for_more_than_the_server_has_itself():
    def with_few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
        assert "--nofile=512" in rlimits(Limits())
        done = run_command(["prlimit", *rlimits(Limits()), "/bin/true"], user=PLAIN)
        assert done.returncode == 0, done.stderr

    in_child(with_few_files)


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
        ((1, "after"), {"pids": 3}, "processes"),
        ((1, "after"), {"pids": 4}, None),
    ],
)
def test_the_watch_sees_a_tree_of_processes_over_its_cap(arguments, limits, kind):
    process = start(None, SPREAD, *arguments)
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


def test_default_limits_fit_the_machine():
    limits = Limits()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MB
    assert limits.memory_mb <= max(256, memory // 2)
    assert limits.pids >= 8 * os.cpu_count()
