"""A process of this machine, told apart from any later one of the same number, and everybody in its session.

Reads /proc only. A process is the same when its start time and the machine's boot are the same.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROC = Path("/proc")
STATE, SESSION, START = 0, 3, 19  # fields of /proc/PID/stat after the command's name


def fields(pid: int) -> list[str] | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the name before it may hold anything


def boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Process:
    pid: int
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Process":
        found = fields(pid)
        return cls(pid, int(found[START]) if found else 0, boot())

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Process":
        return cls(int(data["pid"]), int(data["start"]), str(data["boot"]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def alive(self) -> bool:
        """Whether it runs; one that has ended and only waits to be collected does not."""
        found = fields(self.pid)
        return (
            found is not None and found[STATE] not in "ZX" and int(found[START]) == self.start and self.boot == boot()
        )

    def members(self) -> list[int]:
        """Who of its session is alive, itself included; also when it is gone and has left others behind."""
        leader = fields(self.pid)
        if self.boot != boot() or (leader and int(leader[START]) != self.start):
            return []
        found = []
        for name in os.listdir(PROC):
            told = fields(int(name)) if name.isdigit() else None
            if told and int(told[SESSION]) == self.pid and told[STATE] not in "ZX" and int(told[START]) >= self.start:
                found.append(int(name))
        return found
