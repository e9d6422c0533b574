"""Which Qwen to take for this machine's memory: a dated table (recommend.toml) and a look at the machine.

A suggestion, not a measurement: the rows come from documentation. The table says itself when it has become old.
"""

import datetime
import os
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("recommend.toml")
OLD = datetime.timedelta(days=183)


@dataclass(frozen=True)
class Memory:
    """GiB of this machine; `gpus` holds (name, GiB) of each card that nvidia-smi tells of."""

    ram: float
    gpus: tuple[tuple[str, float], ...] = ()

    @property
    def gpu(self) -> float:
        return sum(size for _, size in self.gpus)


@dataclass(frozen=True)
class Suggestion:
    model: str
    note: str
    start: str
    warning: str | None


def memory_here() -> Memory:
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ask = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Memory(ram)
    rows = (line.rsplit(",", 1) for line in told.splitlines() if "," in line)
    return Memory(ram, tuple((name.strip(), int(size) / 1024) for name, size in rows if size.strip().isdigit()))


def load_table(path: Path = TABLE) -> dict:
    return tomllib.loads(path.read_text())


def suggest(memory: Memory, table: dict, today: datetime.date) -> Suggestion:
    """The largest row that fits into the GPUs; without one, the row for a CPU."""
    row = max((row for row in table["row"] if row["gib"] <= memory.gpu or row["gib"] == 0), key=lambda row: row["gib"])
    age = today - table["date"]
    warning = f"This table is from {table['date']}: look for newer models." if age > OLD else None
    return Suggestion(row["model"], row["note"], row["start"], warning)
