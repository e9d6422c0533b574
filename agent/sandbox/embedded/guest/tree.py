"""Killing a command with all it started.

A member is whatever shares the leader's session or process group, or descends from such a process, also after `setsid`.
A process that left the session *and* lost its parents (a double fork after `setsid`) cannot be told from others here;
the jail's end takes those.
"""

import os
import signal
from pathlib import Path
from typing import NamedTuple

ROUNDS = 50


class Stat(NamedTuple):
    pid: int
    parent: int
    group: int
    session: int


def processes() -> list[Stat]:
    """Every process that can be seen, zombies left out."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path("/proc", entry, "stat").read_bytes()
        except OSError:
            continue  # ended while we looked
        # The name stands in parentheses and may hold anything, so what follows is found from its last one.
        state, parent, group, session = text[text.rindex(b")") + 2 :].split(maxsplit=4)[:4]
        if state not in (b"Z", b"X"):
            found.append(Stat(int(entry), int(parent), int(group), int(session)))
    return found


def members(leader: int) -> set[int]:
    """The living processes of the session that `leader` leads, and their descendants."""
    seen = processes()
    children: dict[int, list[int]] = {}
    for stat in seen:
        children.setdefault(stat.parent, []).append(stat.pid)
    found: set[int] = set()
    pending = [stat.pid for stat in seen if leader in (stat.session, stat.group)]
    while pending:
        pid = pending.pop()
        if pid not in found:
            found.add(pid)
            pending += children.get(pid, [])
    return found


def kill_tree(leader: int) -> None:
    """SIGKILL to all members. They are stopped first, so that none can fork away between the look and the kill."""
    stopped: set[int] = set()
    for _ in range(ROUNDS):
        fresh = members(leader) - stopped
        if not fresh:
            break
        send(fresh, signal.SIGSTOP)
        stopped |= fresh
    send(stopped, signal.SIGKILL)


def send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue  # gone, or turned into something that is not ours
