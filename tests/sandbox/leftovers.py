"""What a server leaves on the machine: jails' processes, mounts, loop devices, cgroups, sockets, folders."""

import os
import time
from pathlib import Path

from agent.sandbox.embedded.config import Config

from .serving import Served


def mark(served: Served) -> str:
    return Config(root=served.home / "sandbox").mark


def processes(served: Served) -> list[str]:
    """Command lines that belong to this server's sandboxes; its folder stands in the command line of each jail, and
    what runs inside a jail has it as an ancestor."""
    parents, lines = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                lines[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    roots = {pid for pid, line in lines.items() if "bwrap" in line and mark(served) in line}
    found = set(roots)
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return [lines[pid] for pid in found if lines.get(pid)]


def loops(served: Served) -> list[str]:
    backing = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [file for file in backing if str(served.home) in file]


def mounts(served: Served) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(served.home) in line]


def cgroups(served: Served) -> list[str]:
    found = []
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{top}/{name}" for name in folders if name.startswith(mark(served))]
    return found


def sockets(served: Served) -> list[str]:
    folder = Path("/tmp", mark(served))
    return [str(path) for path in folder.iterdir()] if folder.exists() else []


def folders(served: Served) -> list[str]:
    return [path.name for path in (served.home / "sandbox" / "sandboxes").iterdir()]


def everything(served: Served) -> dict[str, list[str]]:
    kinds = (processes, loops, mounts, cgroups, sockets, folders)
    return {kind.__name__: found for kind in kinds if (found := kind(served))}


def until_none(look, seconds: float = 10.0) -> None:
    """Wait for the kernel to finish tearing down, then demand that nothing is left."""
    end = time.monotonic() + seconds
    while left := look():
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.05)
