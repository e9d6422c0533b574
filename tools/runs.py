"""Runs: start one, see how it stands, read its log, stop it, go on with it, put several beside each other.

A run is its folder; everything here reads it anew, so any process can ask at any time, also after a crash of the one
that started it. A run on this machine goes on when the agent ends. What is told of it is measured, never printed text.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools import envelope, evaluation, reports
from tools.context import ToolError, here
from tools.declare import Stake, tool
from tools.jobs import JobRef
from tools.jobs.runners import runner
from tools.running import begin, compare, record, watch
from tools.running.diagnosis import diagnose
from tools.running.state import Standing, facts, standing

MOST_LINES = 2000
PATIENCE = 10  # seconds cancel_run waits for the end before it says that the run is stopping


def stake_of_start(run: str, hardware: str = "local", minutes: float | None = None) -> Stake:
    limit = minutes or record.part(here().home / "runs" / run / "plan.json").get("limits", {}).get("minutes")
    return Stake(f"train {run}", hardware, 0.0, 0.0, limit)


@tool("free", stake=stake_of_start)
def start_run(run: str, hardware: str = "local", minutes: float | None = None) -> dict:
    """Start the training of a run whose preflight passed. It goes on by itself; watch it with `run_status`.

    Args:
        run: The run's name, from write_training_script.
        hardware: "local", this machine.
        minutes: When it is stopped at the latest, with a checkpoint. Left out: the plan's limit.
    """
    folder = record.folder_of(run)
    with record.alone(folder):
        begin.check_fresh(folder, standing(folder))
        begin.check_script(folder, "start")
        return told(folder, begin.submit(folder, hardware, minutes))


def force_start(run: str, hardware: str = "local", minutes: float | None = None) -> dict[str, Any]:
    """For a person who answers for the script: no preflight, no jail."""
    folder = record.folder_of(run)
    with record.alone(folder):
        begin.check_fresh(folder, standing(folder))
        return told(folder, begin.submit(folder, hardware, minutes, forced=True))


@tool("free")
def resume_run(run: str) -> dict:
    """Go on with a run that was cancelled, failed, reached its limit or was lost, from its last checkpoint.

    Args:
        run: The run's name.
    """
    return resume(run)


def resume(run: str, minutes: float | None = None) -> dict[str, Any]:
    """With another time limit than before, where one is given."""
    folder = record.folder_of(run)
    with record.alone(folder):
        begin.check_resumable(folder, standing(folder))
        begin.check_script(folder, "resume")
        return told(folder, begin.go_on(folder, minutes))


def force_resume(run: str, minutes: float | None = None) -> dict[str, Any]:
    """For a person who answers for the script: no preflight, no jail."""
    folder = record.folder_of(run)
    with record.alone(folder):
        begin.check_resumable(folder, standing(folder))
        return told(folder, begin.go_on(folder, minutes, forced=True))


@tool("free")
def run_status(run: str | None = None) -> dict:
    """How a run stands: state, steps, loss, time left, speed, memory, alerts, log; why it failed; its verdict.

    Args:
        run: The run's name. Left out: a table of all runs.

    Returns:
        A job with `state` (prepared, queued, running; succeeded, failed, cancelled, limit, lost are ends), `reason`,
        `over`, `step`, `planned_steps`, `eta_minutes`, `loss`, `alerts`, `log`; after a failure `diagnosis` with
        evidence, cures and a changed `plan`; after success `verdict`.
    """
    if run is None:
        return overview()
    folder = record.folder_of(run)
    now = standing(folder)
    return told(folder, now)


def told(folder: Path, now: Standing) -> dict[str, Any]:
    reports.keep_current(folder, now)
    words = line(now)
    watch.tell(folder, now, words)
    more: dict[str, Any] = {"alerts": now.alerts[-10:], "log": log_lines(folder, 8), "over": now.over}
    if warning := too_slow(folder, now):
        more["note"] = warning
    if now.state == "succeeded":
        more["verdict"] = evaluation.verdict(folder)
        words += f", verdict {more['verdict']['verdict']}{evaluation.judged_by(more['verdict'])}"
    if cause := diagnose(folder, now):
        more["diagnosis"] = cause
    known = {name: value for name, value in facts(folder, now).items() if name != "state"}
    return envelope.job(folder.name, now.state, words, **known, **more)


def too_slow(folder: Path, now: Standing) -> str:
    limit = record.job(folder).get("minutes")
    if not limit or now.eta_seconds is None or now.seconds is None or now.seconds + now.eta_seconds <= limit * 60:
        return ""
    whole = span(now.seconds + now.eta_seconds)
    return (
        f"At this speed it reaches its limit of {limit:g} minutes first, {whole} would be needed. It is stopped with a "
        f"checkpoint then; `python -m agent runs resume {folder.name} --minutes N` goes on."
    )


def line(now: Standing) -> str:
    """The standing in a few words."""
    parts = [f"step {now.step} of {now.planned}" if now.planned else f"step {now.step}" if now.step else ""]
    shown = {"loss": "loss {:.4g}", "reward": "reward {:.4g}", "tokens_per_second": "{:,.0f} tokens/s"}
    parts += [form.format(now.numbers[key]) for key, form in shown.items() if now.numbers.get(key) is not None]
    if now.eta_seconds is not None:
        parts.append(f"about {span(now.eta_seconds)} left")
    if now.over:
        parts.append(now.reason)
    return ", ".join(part for part in parts if part) or now.state


def span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def overview() -> dict[str, Any]:
    rows = []
    for name in record.names():
        folder = record.runs_folder() / name
        now = standing(folder)
        plan = record.part(folder / "plan.json")
        loss = now.numbers.get("loss")
        step = f"{now.step}/{now.planned}" if now.planned else str(now.step or "")
        asked = [plan.get("method"), (plan.get("model") or {}).get("id"), (plan.get("dataset") or {}).get("id")]
        rows.append([name, now.state, step, None if loss is None else f"{loss:.4g}", *asked])
    columns = ["run", "state", "step", "loss", "method", "model", "dataset"]
    return envelope.table("Runs", columns, rows, "" if rows else "There are no runs yet.")


@tool("free")
def run_logs(run: str, tail: int = 50) -> dict:
    """The last lines a run printed.

    Args:
        run: The run's name.
        tail: How many lines, at most 2000.
    """
    lines = log_lines(record.folder_of(run), min(max(1, tail), MOST_LINES))
    return envelope.text("\n".join(lines) or "Nothing was printed yet.", run=run, lines=len(lines))


def log_lines(folder: Path, tail: int) -> list[str]:
    return list(read_logs(folder.name, tail))


def read_logs(run: str, tail: int | None = None, follow: bool = False) -> Iterator[str]:
    """The run's lines without our token; with `follow` until it is over."""
    attempt, token = record.last_attempt(record.folder_of(run)), here().hf_token
    if attempt is None:
        return
    ref = JobRef.from_json(attempt["ref"])
    for text in runner(ref.runner).logs(ref, follow, tail):
        yield text.replace(token, "***") if token else text


@tool("free")
def cancel_run(run: str) -> dict:
    """Stop a run. It finishes its step and leaves a checkpoint from which `resume_run` can go on.

    Args:
        run: The run's name.
    """
    folder = record.folder_of(run)
    attempt = record.last_attempt(folder)
    now = standing(folder)
    if attempt is None or now.over:
        raise ToolError(f"The run {run} is not running: {now.state}. There is nothing to stop.")
    ref = JobRef.from_json(attempt["ref"])
    engine = runner(ref.runner)
    engine.cancel(ref)
    until = time.monotonic() + PATIENCE
    while not engine.status(ref).over and time.monotonic() < until and not here().cancel.wait(0.2):
        pass
    now = standing(folder)
    note = "" if now.over else "It was asked to stop and is writing its checkpoint; look again with run_status."
    return {**told(folder, now), "note": note}


@tool("free")
def compare_runs(runs: list[str]) -> dict:
    """Put runs beside each other: what differs in their plans, and how each came out.

    Args:
        runs: Two or more names.
    """
    if len(set(runs)) < 2:
        raise ToolError("Name at least two different runs.")
    return compare.table([record.folder_of(run) for run in runs])
