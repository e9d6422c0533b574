"""A watched run as events of the session: how it stands, each logged step once, each alert once.

What was told before is remembered for the session alone; whoever comes later reads the run's folder.
"""

from pathlib import Path
from typing import Any

from tools.context import here
from tools.running import metrics
from tools.running.state import Standing, facts, plain

ROWS = 50  # told at once; a watcher that comes late gets the latest


def tell(folder: Path, now: Standing, line: str) -> None:
    told = here().told.setdefault(f"run {folder.name}", {"step": -1, "alerts": 0})
    known = facts(folder, now)
    share = now.step / now.planned if now.planned else None
    job: dict[str, Any] = {"id": folder.name, "run": folder.name, "state": now.state, "detail": line}
    here().tell("job", job | {"progress": share, "eta_seconds": now.eta_seconds, "usd": known["usd"]})
    for step, values in steps(folder, told["step"])[-ROWS:]:
        here().tell("metric", {"run": folder.name, "values": values, "at_step": step})
        told["step"] = step
    for alert in now.alerts[told["alerts"] :]:
        text = f"{folder.name}, step {alert['step']}: {alert['title']}: {alert['text']}"
        here().tell("error", {"text": text, "kind": "run"})
    told["alerts"] = len(now.alerts)


def steps(folder: Path, after: int) -> list[tuple[int, dict[str, Any]]]:
    rows: dict[int, dict[str, Any]] = {}
    for name, points in metrics.series(folder).items():
        for step, value in points:
            if step > after:
                rows.setdefault(step, {})[name] = plain(value)
    return sorted(rows.items())
