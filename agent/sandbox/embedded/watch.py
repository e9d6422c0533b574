"""Looks after what no cgroup holds: memory and processes of a jail on a machine without one, and the size of a home
folder.

A watcher sees a breach after the fact: memory within about 0.1 s, disk within a second or so (longer for large trees,
so that looking costs at most a twentieth of the time). What is written in between is over the cap. The rlimits inside
the jail bound each single process and file meanwhile. CPU is not watched. Memory in /tmp and /dev/shm counts only while
mapped; their tmpfs sizes bound it, and the number of files in them is watched. Shared memory that no process has mapped
(a memfd, a System V segment, a shared mapping whose pages were given back) is not seen.
"""

import asyncio
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .limits import MB, Cage

PAGE = os.sysconf("SC_PAGE_SIZE")
POLL = 0.1
DISK_POLL = 1.0
TEMPORARY = ("tmp", "dev/shm", "run")  # of a jail; bubblewrap can give a tmpfs a size but no number of files
OUTSIDE = 1  # bubblewrap's own process, which the jail's rlimit does not count: at the cap is not over it
THRIFT = 20  # the pause is at least this many times as long as the look
MAX_DEPTH = 200  # of folders: each level keeps one descriptor open
log = logging.getLogger(__name__)

OnBreach = Callable[[str, int, int], None]


@dataclass
class Process:
    parent: int
    threads: int
    rss: int


@dataclass
class Usage:
    """Of a folder. `hidden` counts folders that could not be looked into: too deep, or closed to us."""

    bytes: int = 0
    inodes: int = 0
    hidden: int = 0


@dataclass
class Watched:
    cage: Cage
    pids: Callable[[dict[int, Process]], set[int]]
    home: Path | None
    on_breach: OnBreach
    told: set[str] = field(default_factory=set)
    disk_due: float = 0.0

    @property
    def needs_processes(self) -> bool:
        return not {"memory", "pids"} <= self.cage.holds

    def check(self, kind: str, used: int, cap: int) -> None:
        """Tell of a breach once, again only after it was mended."""
        if used <= cap:
            self.told.discard(kind)
        elif kind not in self.told:
            self.told.add(kind)
            try:
                self.on_breach(kind, used, cap)
            except Exception:
                log.exception("on_breach failed for %s", self.cage.name)


class Watch:
    """One for all sandboxes. Kinds of breaches: memory and disk (bytes), processes (threads count), inodes, temporary
    files, hidden."""

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}

    def add_tree(self, cage: Cage, pid: int, home: Path | None, on_breach: OnBreach) -> None:
        """Watch the jail below `pid`. All of it is there, because a pid namespace keeps orphans in its tree."""
        self._watched[cage.name] = Watched(cage, lambda processes: tree(processes, pid), home, on_breach)

    def add_user(self, cage: Cage, uid: int, home: Path | None, on_breach: OnBreach) -> None:
        """Watch every process of a uid that belongs to one sandbox alone."""
        self._watched[cage.name] = Watched(cage, lambda processes: of_user(processes, uid), home, on_breach)

    def remove(self, cage: Cage) -> None:
        self._watched.pop(cage.name, None)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_at_processes())
            tasks.create_task(self._look_at_disks())

    async def _look_at_processes(self) -> None:
        while True:
            started = time.monotonic()
            watched = [entry for entry in self._watched.values() if entry.needs_processes]
            if watched:
                processes = snapshot()
                for entry in watched:
                    _check_processes(entry, processes)
            await asyncio.sleep(max(POLL, THRIFT * (time.monotonic() - started)))

    async def _look_at_disks(self) -> None:
        while True:
            for entry in list(self._watched.values()):
                if entry.home and entry.disk_due <= time.monotonic():
                    await self._look_at_disk(entry, entry.home)
            await asyncio.sleep(POLL)

    async def _look_at_disk(self, entry: Watched, home: Path) -> None:
        started, limits = time.monotonic(), entry.cage.limits
        used = await asyncio.to_thread(usage, home, limits.disk_mb * MB, limits.inodes)
        if entry is not self._watched.get(entry.cage.name):
            return
        entry.cage.disk_seen = used.bytes
        entry.check("disk", used.bytes, limits.disk_mb * MB)
        entry.check("inodes", used.inodes, limits.inodes)
        entry.check("hidden", used.hidden, 0)
        now = time.monotonic()
        entry.disk_due = now + max(DISK_POLL, THRIFT * (now - started))


def _check_processes(entry: Watched, processes: dict[int, Process]) -> None:
    pids, limits = entry.pids(processes), entry.cage.limits
    if "pids" not in entry.cage.holds:
        inside = sum(processes[pid].threads for pid in pids) - OUTSIDE
        entry.check("processes", inside, limits.pids)
    if "memory" not in entry.cage.holds:
        cap = limits.memory_mb * MB
        used = sum(processes[pid].rss for pid in pids)
        if used > cap:  # pages shared after a fork count once for each process: look closely before anyone is killed
            used = sum(_proportional(pid, processes[pid].rss) for pid in pids)
        entry.check("memory", used, cap)
        entry.check("temporary files", temporary_files(pids), limits.inodes)


def snapshot() -> dict[int, Process]:
    """Every process of this machine, one small read each."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()  # the name before may hold spaces and brackets
                found[int(name)] = Process(int(fields[1]), int(fields[17]), int(fields[21]) * PAGE)
    return found


def tree(processes: dict[int, Process], root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found, todo = set(), [root] if root in processes else []
    while todo:
        pid = todo.pop()
        found.add(pid)
        todo += children.get(pid, [])
    return found


def of_user(processes: dict[int, Process], uid: int) -> set[int]:
    """By the owner of the folder in /proc: unlike its files it stays the user's when a process is undumpable."""
    found = set()
    for pid in processes:
        with suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == uid:
                found.add(pid)
    return found


def _proportional(pid: int, otherwise: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))
    except (OSError, StopIteration):
        return otherwise


def temporary_files(pids: set[int]) -> int:
    """How many inodes a jail's own tmpfs folders hold: memory that no process has and no rlimit knows."""
    for pid in sorted(pids, reverse=True):  # bubblewrap's own process, the oldest, stands outside
        root = f"/proc/{pid}/root"
        with suppress(OSError):
            if not os.path.samestat(os.stat(f"{root}/"), os.stat("/")):
                told = [os.statvfs(f"{root}/{folder}") for folder in TEMPORARY]
                return sum(each.f_files - each.f_ffree for each in told)
    return 0


def usage(home: Path, max_bytes: int, max_inodes: int, seconds: float = 30.0) -> Usage:
    """Blocks and inodes below a folder, on its own filesystem, links never followed. Stops as soon as a cap or the time
    is over: then the numbers say at least how much there is."""
    used, deadline = Usage(), time.monotonic() + seconds
    linked: set[int] = set()
    try:
        top = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return used
    device = os.fstat(top).st_dev
    levels: list[tuple[int, Iterator[os.DirEntry]]] = [(top, _entries(top))]
    try:
        while levels:
            folder, entries = levels[-1]
            entry = next(entries, None)
            if entry is None:
                os.close(levels.pop()[0])
                continue
            with suppress(OSError):  # removed in between
                info = entry.stat(follow_symlinks=False)
                if info.st_dev != device or (info.st_nlink > 1 and info.st_ino in linked):
                    continue
                used.inodes += 1
                used.bytes += info.st_blocks * 512
                if stat.S_ISDIR(info.st_mode):
                    _descend(levels, folder, entry.name, used)
                elif info.st_nlink > 1:
                    linked.add(info.st_ino)
            if used.bytes > max_bytes or used.inodes > max_inodes or time.monotonic() > deadline:
                break
    finally:
        for folder, _ in levels:
            os.close(folder)
    return used


def _descend(levels: list[tuple[int, Iterator[os.DirEntry]]], parent: int, name: str, used: Usage) -> None:
    if len(levels) >= MAX_DEPTH:
        used.hidden += 1
        return
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError:
        used.hidden += 1
        return
    levels.append((folder, _entries(folder)))


def _entries(folder: int) -> Iterator[os.DirEntry]:
    with os.scandir(folder) as entries:
        yield from entries
