"""Bombs against the cage. All are bounded, also where nothing stops them."""

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.sandbox.embedded import cgroups
from agent.sandbox.embedded.limits import MB, Cage, Limits, rlimits, sweep
from tests.sandbox.attacks import DAEMON, PLAIN, PYTHON, Result, in_child, needs_python, run_command

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


def gone(pid: int) -> bool:
    """A killed process leaves its cgroup a moment before it stops counting as running."""
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    return not alive(pid)


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
        assert gone(inside)
        assert alive(outside)
    finally:
        os.kill(outside, 9)


@needs_cgroups
def test_a_cage_with_processes_in_it_is_removed_with_them():
    one = Cage.open(f"{NAME}full", Limits())
    daemon = int(finish(one, DAEMON).stderr)
    assert alive(daemon)
    assert one.remove()
    assert gone(daemon)
    assert not any(folder.exists() for folder in one.group.folders)


@needs_cgroups
def test_sweep_removes_what_an_earlier_server_left_and_nothing_else():
    left = [Cage.open(f"{NAME}left-{n}", Limits()) for n in range(2)]
    other = Cage.open(f"{NAME}other", Limits())
    daemons = [int(finish(one, DAEMON).stderr) for one in (*left, other)]
    try:
        assert sweep(f"{NAME}left-") == 2
        assert gone(daemons[0]) and gone(daemons[1]) and alive(daemons[2])
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


def test_default_limits_fit_the_machine():
    limits = Limits()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MB
    assert limits.memory_mb <= max(256, memory // 2)
    assert limits.pids >= 8 * os.cpu_count()
