"""A run's numbers and alerts, from Trackio's database in its folder; never from what the script prints.

Read with sqlite3 alone: it must work while the trainer writes, and cost no import. Rows are joined on the training
step, for Trackio's own step counts evaluation rows too; after a resume the later row of a step counts.
"""

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tools.running import record

STORE = "metrics"  # the folder TRACKIO_DIR names, inside the run's
STEP = "train/global_step"


def series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By metric: (training step, value) in order. What is not a number, like a NaN loss, is kept as NaN."""
    found: dict[str, dict[int, float]] = {}
    for row in rows(folder, "select metrics from metrics where run_name = ? order by id"):
        for name, step, number in points(row[0]):
            found.setdefault(name, {})[step] = number
    return {name: sorted(known.items()) for name, known in found.items()}


def points(text: str) -> Iterator[tuple[str, int, float]]:
    """What one row of Trackio's table tells: metric, training step, value."""
    try:
        values = json.loads(text)
    except ValueError:
        return
    step = values.get(STEP)
    if not isinstance(step, int | float):
        return
    for name, value in values.items():
        number = as_number(value)
        if number is not None and name != STEP:
            yield name, int(step), number


def as_number(value: Any) -> float | None:
    """Trackio writes what JSON has no sign for as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and value.lstrip("-").lower() in ("nan", "inf", "infinity"):
        return math.nan
    return None


def alerts(folder: Path) -> list[dict[str, Any]]:
    """What the script warned of, in order: its own file, else Trackio's table (a run that logs from elsewhere)."""
    path = folder / "alerts.jsonl"
    if path.exists():
        return [told for line in record.lines(path) if (told := one_alert(line))]
    query = "select level, title, text, step from alerts where run_name = ? order by id"
    return [
        {"level": level.upper(), "title": title, "text": text or "", "step": step}
        for level, title, text, step in rows(folder, query)
    ]


def one_alert(line: str) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except ValueError:  # cut by a crash
        return None
    return {"level": "WARN", "title": "", "text": "", "step": None, **told} if isinstance(told, dict) else None


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for path in sorted(path for path in (folder / STORE).glob("*.db") if not path.is_symlink()):
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
                found += connection.execute(query, (folder.name,)).fetchall()
        except sqlite3.Error:  # being made this moment, or cut by a crash: as if nothing was logged yet
            continue
    return found


def last(points: dict[str, list[tuple[int, float]]], *names: str) -> float | None:
    """The latest value of the first of these metrics that there is."""
    for name in names:
        if points.get(name):
            return points[name][-1][1]
    return None
