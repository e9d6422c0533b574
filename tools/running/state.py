"""How a run stands: the runner's word about the process, and the script's own word about the work, put together.

A run is `prepared` before it is started, then queued or running, and ends as succeeded, failed, cancelled, limit or
lost. It has succeeded only when both say so: a process that ends with 0 and left no result did not.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.jobs import JobRef, JobStatus
from tools.jobs.runners import runner
from tools.running import metrics, record

ENDS = ("succeeded", "failed", "cancelled", "limit", "lost")
CANCELLED, TIMED_OUT, KILLED = 130, 124, 137


@dataclass
class Standing:
    state: str
    reason: str = ""
    exit_code: int | None = None
    step: int = 0
    planned: int | None = None
    seconds: float | None = None  # of the last attempt
    eta_seconds: float | None = None
    numbers: dict[str, float | None] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.state in ENDS


def standing(folder: Path) -> Standing:
    attempt = record.last_attempt(folder)
    if attempt is None:
        return Standing("prepared", "not started yet")
    status = job_status(attempt)
    result = of_attempt(folder, "result.json", status)
    progress = of_attempt(folder, "progress.json", status)
    state, reason = judged(status, result)
    points = metrics.series(folder)
    now = Standing(state, reason, status.exit_code, alerts=metrics.alerts(folder))
    now.step = int(max(result.get("steps") or 0, progress.get("step") or 0, attempt.get("from_step") or 0))
    now.planned = result.get("planned_steps") or progress.get("of")
    if status.started:
        ended = status.ended or (last_sign(folder) if now.over else time.time()) or status.started
        now.seconds = max(0.0, ended - status.started)
    now.eta_seconds = None if now.over else left(folder, progress)
    now.numbers = {
        "loss": metrics.last(points, "train/loss"),
        "eval_loss": metrics.last(points, "eval/loss"),
        "reward": metrics.last(points, "train/reward"),
        "tokens_per_second": metrics.last(points, "train/tokens_per_second"),
        "memory_mb": result.get("peak_memory_mb") or metrics.last(points, "train/memory_mb"),
    }
    return now


def last_sign(folder: Path) -> float | None:
    """When something was last written by a run that did not live to tell its end."""
    paths = [folder / "log.txt", folder / "progress.json", folder / "result.json"]
    return max((path.lstat().st_mtime for path in paths if path.exists()), default=None)


def job_status(attempt: dict[str, Any]) -> JobStatus:
    """As it was kept when the next attempt began, else as the runner sees it now."""
    if end := attempt.get("end"):
        return JobStatus(
            end["state"], end.get("exit_code"), end.get("message", ""), end.get("started"), end.get("ended")
        )
    ref = JobRef.from_json(attempt["ref"])
    return runner(ref.runner).status(ref)


def of_attempt(folder: Path, name: str, status: JobStatus) -> dict[str, Any]:
    """A file the script writes, unless it is still that of the attempt before."""
    path = folder / name
    if status.started and path.exists() and path.stat().st_mtime < status.started - 1:
        return {}
    return record.part(path)


def left(folder: Path, progress: dict[str, Any]) -> float | None:
    """The script's own estimate, less the time since it was made."""
    if progress.get("eta_seconds") is None:
        return None
    return max(0.0, progress["eta_seconds"] - (time.time() - (folder / "progress.json").stat().st_mtime))


def judged(status: JobStatus, result: dict[str, Any]) -> tuple[str, str]:
    says, error = result.get("status"), result.get("error") or {}
    if status.state == "succeeded":
        if says == "succeeded":
            early = " (stopped early: it no longer got better)" if result.get("stopped_early") else ""
            return "succeeded", f"{result.get('steps')} of {result.get('planned_steps')} steps{early}"
        return "failed", f"the script ended without an error, but its result says '{says or 'nothing'}'"
    if status.state == "cancelled":
        kept = f"; checkpoint: {result['checkpoint']}" if result.get("checkpoint") else ""
        return "cancelled", f"{status.message}{kept}"
    if status.state == "failed":
        if "time limit" in status.message:
            return "limit", f"{status.message}; resume_run goes on from the last checkpoint"
        if status.exit_code == CANCELLED and says == "cancelled":
            return "cancelled", "stopped by a signal from outside"
        told = " ".join(part for part in (error.get("text"), error.get("mend")) if part)
        return "failed", told or status.message
    return status.state, status.message


def facts(folder: Path, now: Standing) -> dict[str, Any]:
    """A standing as plain values; what is not known is None, and a NaN is told as text, for JSON has none."""
    numbers = {name: plain(value) for name, value in now.numbers.items()}
    return {
        "run": folder.name,
        "state": now.state,
        "reason": now.reason,
        "step": now.step,
        "planned_steps": now.planned,
        "minutes": None if now.seconds is None else round(now.seconds / 60, 2),
        "eta_minutes": None if now.eta_seconds is None else round(now.eta_seconds / 60, 2),
        **numbers,
        "usd": spent(folder, now),
    }


def plain(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN"


def spent(folder: Path, now: Standing) -> float | None:
    """Money over all attempts. This machine costs nothing; an unknown price stays unknown."""
    price = record.job(folder).get("usd_per_hour")
    attempts = record.job(folder).get("attempts") or []
    if price is None:
        return None
    times = [span(one["end"]) for one in attempts if one.get("end")] + [now.seconds or 0.0]
    return round(price * sum(times) / 3600, 4)


def span(end: dict[str, Any]) -> float:
    return max(0.0, (end.get("ended") or 0) - (end.get("started") or 0)) if end.get("ended") else 0.0
