"""Cgroups v1 and v2 behind one small face: make a group with caps, move a process in, read, kill, remove.

`find` returns the first hierarchy in which a real process could be moved, killed and the group removed again; that this
works is tried, never inferred. What a hierarchy cannot hold (no controller, not writable) is missing in `Group.holds`.
Nothing is done to groups made by others, except that v2 controllers are switched on for the children of the group we
make ours under.
"""

import contextlib
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from pathlib import Path

MB = 1024 * 1024
PERIOD_US = 100_000
CONTROLLERS = ("memory", "pids", "cpu")
PATIENCE = 5.0  # seconds until a group that does not empty is given up


class Group(ABC):
    """One sandbox's group: on v2 one folder, on v1 one for each controller. A process out of memory is killed alone,
    the kernel takes the largest one of the group; the others live on."""

    def __init__(self, folders: list[Path], holds: frozenset[str]):
        self.folders, self.holds = folders, holds

    def add(self, pid: int) -> None:
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> set[int]:
        found: set[int] = set()
        for folder in self.folders:
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        return found - {0}  # 0 is a process of a foreign pid namespace, and kill(0) would be ourselves

    def kill_all(self) -> None:
        """SIGKILL until the group is empty. Frozen in between, so that a fork cannot slip through unseen."""
        for _ in self._until_empty():
            self.freeze()
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self.thaw()

    def _until_empty(self) -> Iterator[None]:
        deadline = time.monotonic() + PATIENCE
        while self.pids() and time.monotonic() < deadline:
            yield
            time.sleep(0.002)

    def remove(self) -> bool:
        """Kill what is left and remove the folders; False when one is still busy after the patience is over."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.kill_all()
            for folder in self.folders:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if not any(folder.exists() for folder in self.folders):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)

    @abstractmethod
    def freeze(self) -> None: ...

    @abstractmethod
    def thaw(self) -> None: ...

    @abstractmethod
    def memory(self) -> int | None: ...

    @abstractmethod
    def cpu_seconds(self) -> float | None: ...

    @abstractmethod
    def oom_kills(self) -> int: ...


class UnifiedGroup(Group):
    @property
    def folder(self) -> Path:
        return self.folders[0]

    def kill_all(self) -> None:
        if not (self.folder / "cgroup.kill").exists():  # kernel < 5.14
            return super().kill_all()
        for _ in self._until_empty():
            _write(self.folder / "cgroup.kill", 1)

    def freeze(self) -> None:
        _write(self.folder / "cgroup.freeze", 1)

    def thaw(self) -> None:
        _write(self.folder / "cgroup.freeze", 0)

    def memory(self) -> int | None:
        used = _number(self.folder / "memory.current")
        return used and max(0, used - _fields(self.folder / "memory.stat").get("inactive_file", 0))

    def cpu_seconds(self) -> float | None:
        used = _fields(self.folder / "cpu.stat").get("usage_usec")
        return None if used is None else used / 1e6

    def oom_kills(self) -> int:
        return _fields(self.folder / "memory.events").get("oom_kill", 0)


class LegacyGroup(Group):
    def __init__(self, by_controller: dict[str, Path]):
        super().__init__(list(dict.fromkeys(by_controller.values())), frozenset(by_controller) & {*CONTROLLERS})
        self.by_controller = by_controller

    def freeze(self) -> None:
        if folder := self.by_controller.get("freezer"):
            _write(folder / "freezer.state", "FROZEN")

    def thaw(self) -> None:
        if folder := self.by_controller.get("freezer"):
            _write(folder / "freezer.state", "THAWED")

    def memory(self) -> int | None:
        if not (folder := self.by_controller.get("memory")):
            return None
        used = _number(folder / "memory.usage_in_bytes")
        return used and max(0, used - _fields(folder / "memory.stat").get("total_inactive_file", 0))

    def cpu_seconds(self) -> float | None:
        folder = self.by_controller.get("cpuacct")
        used = _number(folder / "cpuacct.usage") if folder else None
        return None if used is None else used / 1e9

    def oom_kills(self) -> int:
        folder = self.by_controller.get("memory")
        return _fields(folder / "memory.oom_control").get("oom_kill", 0) if folder else 0


class Unified:
    """cgroup v2 below one folder that hands memory and pids on to its children."""

    version = "cgroup v2"

    def __init__(self, parent: Path):
        self.parent = parent
        offered = (parent / "cgroup.controllers").read_text().split()
        for controller in CONTROLLERS:
            if controller in offered:
                with contextlib.suppress(OSError):  # not ours, or busy: then the line below leaves it out
                    (parent / "cgroup.subtree_control").write_text(f"+{controller}")
        self.controllers = frozenset((parent / "cgroup.subtree_control").read_text().split()) & {*CONTROLLERS}
        if not {"memory", "pids"} <= self.controllers:
            raise OSError(f"{parent} does not hand on memory and pids")

    def make(self, name: str, memory_mb: int, pids: int, cpus: float | None) -> Group:
        folder = self.parent / name
        folder.mkdir()
        group = UnifiedGroup([folder], self.controllers)
        try:
            (folder / "memory.max").write_text(str(memory_mb * MB))
            if (folder / "memory.swap.max").exists():
                (folder / "memory.swap.max").write_text("0")
            (folder / "pids.max").write_text(str(pids))
            if cpus and "cpu" in self.controllers:
                (folder / "cpu.max").write_text(f"{int(cpus * PERIOD_US)} {PERIOD_US}")
        except OSError:
            group.remove()
            raise
        return group

    def left_over(self, prefix: str) -> list[Group]:
        return [UnifiedGroup([p], self.controllers) for p in self.parent.glob(f"{prefix}*") if p.is_dir()]


class Legacy:
    """cgroup v1: the controllers whose folders are writable, each below our own group there."""

    version = "cgroup v1"

    def __init__(self, parents: dict[str, Path]):
        self.parents = {name: path for name, path in parents.items() if os.access(path, os.W_OK)}
        if not {"memory", "pids"} & set(self.parents):
            raise OSError("neither memory nor pids can be held")

    def make(self, name: str, memory_mb: int, pids: int, cpus: float | None) -> Group:
        folders = {controller: parent / name for controller, parent in self.parents.items()}
        made: list[Path] = []
        try:
            for folder in dict.fromkeys(folders.values()):
                folder.mkdir()
                made.append(folder)
            if "memory" in folders:
                _cap_memory(folders["memory"], memory_mb * MB)
            if "pids" in folders:
                (folders["pids"] / "pids.max").write_text(str(pids))
            if cpus and "cpu" in folders:
                (folders["cpu"] / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (folders["cpu"] / "cpu.cfs_quota_us").write_text(str(int(cpus * PERIOD_US)))
        except OSError:
            for folder in made:
                folder.rmdir()
            raise
        return LegacyGroup(folders)

    def left_over(self, prefix: str) -> list[Group]:
        names = {p.name for parent in self.parents.values() for p in parent.glob(f"{prefix}*") if p.is_dir()}
        found: list[Group] = []
        for name in sorted(names):
            paths = {c: parent / name for c, parent in self.parents.items() if (parent / name).is_dir()}
            found.append(LegacyGroup(paths))
        return found


Hierarchy = Unified | Legacy


@cache
def find(root: Path | None = None) -> Hierarchy | None:
    """The first hierarchy that really works. `root`: a delegated v2 folder, or a folder with v1 controllers in it."""
    for hierarchy in _candidates(root):
        if _works(hierarchy):
            return hierarchy
    return None


def _candidates(root: Path | None) -> Iterator[Hierarchy]:
    if root is not None:
        parents = [root] if (root / "cgroup.controllers").exists() else []
        legacy = {c: root / c for c in (*CONTROLLERS, "cpuacct", "freezer") if (root / c).is_dir()}
    else:
        parents, legacy = _unified_parents(), _own_folders()
    for parent in parents:
        with contextlib.suppress(OSError):
            yield Unified(parent)
    with contextlib.suppress(OSError):
        yield Legacy(legacy)


def _works(hierarchy: Hierarchy) -> bool:
    group = None
    process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        group = hierarchy.make(f"probe-{os.getpid()}-{process.pid}", memory_mb=64, pids=8, cpus=1.0)
        group.add(process.pid)
        inside = process.pid in group.pids()
        group.kill_all()
        return inside and process.wait(timeout=PATIENCE) == -signal.SIGKILL
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        process.kill()
        process.communicate()
        if group:
            group.remove()


def _unified_parents() -> list[Path]:
    """Groups above our own, nearest first: in ours itself, a group with processes, v2 allows no capped children."""
    for kind, _, mounted_root, mount in _mounts():
        if kind == "cgroup2":
            own = _inside(mount, mounted_root, _own_paths().get("", "/"))
            above = [path for path in own.parents if path.is_relative_to(mount)] or [mount]
            uid = os.getuid()
            return [*above, mount / f"user.slice/user-{uid}.slice/user@{uid}.service/app.slice"]
    return []


def _own_folders() -> dict[str, Path]:
    own, found = _own_paths(), {}
    for kind, options, mounted_root, mount in _mounts():
        if kind == "cgroup":
            for controller in {*CONTROLLERS, "cpuacct", "freezer"} & options:
                found[controller] = _inside(mount, mounted_root, own.get(controller, "/"))
    return found


def _mounts() -> list[tuple[str, set[str], Path, Path]]:
    """Type, options, root within the hierarchy and mount point of every cgroup mount."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, mount = left.split(" ")[3:5]
            found.append((kind, set(options.split(",")), Path(root), Path(mount)))
    return found


def _own_paths() -> dict[str, str]:
    """Our own group in each hierarchy; the unified one has the empty name."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _inside(mount: Path, mounted_root: Path, own: str) -> Path:
    path = Path(own)
    return mount / path.relative_to(mounted_root) if path.is_relative_to(mounted_root) else mount


def _cap_memory(folder: Path, limit: int) -> None:
    (folder / "memory.limit_in_bytes").write_text(str(limit))
    try:  # memory and swap together: what is over the limit cannot move to swap
        (folder / "memory.memsw.limit_in_bytes").write_text(str(limit))
    except OSError:
        (folder / "memory.swappiness").write_text("0")


def _write(path: Path, value: int | str) -> None:
    with contextlib.suppress(OSError):  # the group may be gone, or its last process just left
        path.write_text(str(value))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _fields(path: Path) -> dict[str, int]:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
    except OSError:
        return {}
