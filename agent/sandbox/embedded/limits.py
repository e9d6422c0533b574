"""What one sandbox may use, and the cage that holds it to that.

`Limits` are the numbers, `rlimits` their share that `prlimit` holds inside the jail (per process, and per user for
nproc), `Cage` their share that cgroups hold for the whole jail. Where no cgroup can be made the cage holds nothing and
`Watch` (watch.py) looks instead.
"""

import os
import resource
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from . import cgroups

MB = cgroups.MB


def _memory_mb() -> int:
    return max(256, min(4096, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 // MB))


def _pids() -> int:
    """Threads count too, and numerical libraries start one for each core in every process."""
    return max(256, 8 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Limits:
    """The caps of one sandbox. `cpus` None: no quota. `file_mb` None: one file may fill the disk cap."""

    memory_mb: int = field(default_factory=_memory_mb)
    pids: int = field(default_factory=_pids)
    cpus: float | None = None
    disk_mb: int = 4096
    inodes: int = 200_000
    shm_mb: int = 256
    tmp_mb: int = 256
    file_mb: int | None = None


def rlimits(limits: Limits) -> list[str]:
    """Arguments for `prlimit`, to be run inside the jail as its user. The data segment is capped, never the address
    space: CUDA and others reserve far more addresses than they ever use. A cap this process has itself is not raised,
    which a user without privileges could not do."""
    wanted = {
        "nproc": limits.pids,
        "data": limits.memory_mb * MB,
        "core": 0,
        "fsize": (limits.file_mb or limits.disk_mb) * MB,
        "nofile": 4096,
    }
    return [f"--{name}={_within_own(name, value)}" for name, value in wanted.items()]


def _within_own(name: str, value: int) -> int:
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


class Cage:
    """The cgroups of one sandbox, or none. `holds` names the caps that hold: a subset of memory, pids, cpu."""

    def __init__(self, name: str, limits: Limits, group: cgroups.Group | None, version: str):
        self.name, self.limits, self.group, self.version = name, limits, group, version
        self.disk_seen = 0  # bytes in the home folder as Watch last counted them

    @classmethod
    def open(cls, name: str, limits: Limits, root: Path | None = None) -> "Cage":
        hierarchy = cgroups.find(root)
        if hierarchy is None:
            return cls(name, limits, None, "no cgroup")
        group = hierarchy.make(name, limits.memory_mb, limits.pids, limits.cpus)
        return cls(name, limits, group, hierarchy.version)

    @property
    def holds(self) -> frozenset[str]:
        return self.group.holds if self.group else frozenset()

    def enter_script(self) -> str:
        """sh that moves the running shell into the cage, for use before an exec by the user who opened it. So the jail
        never runs outside, not for a moment."""
        folders = self.group.folders if self.group else []
        return "\n".join(f"echo $$ > {shlex.quote(str(folder / 'cgroup.procs'))} || exit 126" for folder in folders)

    def add(self, pid: int) -> None:
        """Move a running process; its children of before stay outside."""
        if self.group:
            self.group.add(pid)

    def kill_all(self) -> None:
        if self.group:
            self.group.kill_all()

    def freeze(self) -> bool:
        """Stop every process of the cage; False when there is no cage to do it."""
        if self.group:
            self.group.freeze()
        return self.group is not None

    def thaw(self) -> None:
        if self.group:
            self.group.thaw()

    def memory(self) -> int | None:
        """Bytes in use, without file cache that can be dropped. None: nobody counts."""
        return self.group.memory() if self.group else None

    def cpu_seconds(self) -> float | None:
        return self.group.cpu_seconds() if self.group else None

    def oom_kills(self) -> int:
        """How many processes the kernel killed for memory. It takes the largest one, not the whole jail."""
        return self.group.oom_kills() if self.group else 0

    def remove(self) -> bool:
        """Kill the rest and remove the groups, at most some seconds; False when something in it cannot be killed."""
        return self.group.remove() if self.group else True

    def describe(self) -> str:
        caps = {"memory": f"{self.limits.memory_mb} MB memory", "pids": f"{self.limits.pids} processes"}
        if self.limits.cpus:
            caps["cpu"] = f"{self.limits.cpus:g} cores"
        held = ", ".join(text for kind, text in caps.items() if kind in self.holds)
        loose = ", ".join(text for kind, text in caps.items() if kind not in self.holds)
        parts = [f"held by {self.version}: {held}" if held else "", f"not held, only watched: {loose}" if loose else ""]
        return "; ".join(filter(None, parts))


def sweep(prefix: str, root: Path | None = None) -> int:
    """Kill and remove the cages an earlier server left, whose names start with `prefix`. Returns how many."""
    if not prefix:
        raise ValueError("an empty prefix would sweep every group")
    hierarchy = cgroups.find(root)
    return sum(group.remove() for group in hierarchy.left_over(prefix)) if hierarchy else 0
