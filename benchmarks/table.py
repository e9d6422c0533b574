"""Rows of a benchmark: a figure beside its baseline of the same run, and the bar it must hold. Printed and kept."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    what: str
    value: float
    unit: str
    bar: float
    baseline: str = ""  # what the value is a multiple of, when it is a ratio
    note: str = ""

    @property
    def held(self) -> bool:
        return self.value <= self.bar


def median(work: Callable[[], object], times: int, warm: int = 2) -> float:
    """Median seconds of some runs, after warm ones that are not counted."""
    for _ in range(warm):
        work()
    return statistics.median(seconds(work) for _ in range(times))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(name: str, rows: list[Row]) -> int:
    """Print the table and keep it; the exit code says whether every bar held."""
    for row in rows:
        tell(row)
    return keep(name, rows)


def tell(row: Row) -> None:
    mark = "held" if row.held else "NOT HELD"
    beside = f" of {row.baseline}" if row.baseline else ""
    line = f"{row.what:<44} {row.value:8.2f} {row.unit:<3} bar {row.bar:<6g} {mark:<9}{beside} {row.note}"
    print(line.rstrip(), flush=True)


def keep(name: str, rows: list[Row]) -> int:
    """Write `results/<name>.json`; the exit code says whether every bar held."""
    RESULTS.mkdir(exist_ok=True)
    told = {"machine": platform.platform(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    told["rows"] = [asdict(row) | {"held": row.held} for row in rows]  # type: ignore[assignment]
    (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=2) + "\n")
    return 0 if all(row.held for row in rows) else 1
