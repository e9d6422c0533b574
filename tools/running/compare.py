"""Runs side by side: the plan's fields that differ, then the outcome; the rest of the plans is the same."""

from pathlib import Path
from typing import Any

from tools import envelope, evaluation
from tools.running import record
from tools.running.state import facts, standing

NOT_COMPARED = ("reasons", "estimate", "version", "outputs")
OUTCOME = {
    "state": "state",
    "step": "steps",
    "minutes": "minutes",
    "usd": "cost, $",
    "loss": "training loss",
    "eval_loss": "held-out loss",
    "reward": "reward",
    "tokens_per_second": "tokens/s",
    "memory_mb": "peak memory, MB",
}


def table(folders: list[Path]) -> dict[str, Any]:
    plans = [flat(record.part(folder / "plan.json")) for folder in folders]
    names = sorted(set().union(*plans))
    rows: list[list[Any]] = [
        [f"plan: {name}", *(shown(plan.get(name)) for plan in plans)]
        for name in names
        if len({repr(plan.get(name)) for plan in plans}) > 1
    ]
    same = "" if rows else "The plans are the same."
    known = [facts(folder, standing(folder)) for folder in folders]
    for key, label in OUTCOME.items():
        if any(one.get(key) is not None for one in known):
            rows.append([label, *(one.get(key) for one in known)])
    verdicts = [evaluation.verdict(folder) for folder in folders]
    measured = {change["name"] for one in verdicts for change in one["changes"]}
    for name in sorted(measured):
        rows.append([f"{name}, before → after", *(moved(one, name) for one in verdicts)])
    rows.append(["verdict", *(one["verdict"] + evaluation.judged_by(one) for one in verdicts)])
    data = {shown(plan.get("dataset.fingerprint") or plan.get("dataset.id")) for plan in plans}
    apart = "They were measured on different data: compare their verdicts with care." if len(data) > 1 else ""
    columns = ["", *(folder.name for folder in folders)]
    return envelope.table("Runs compared", columns, rows, " ".join(part for part in (same, apart) if part))


def moved(verdict: dict[str, Any], name: str) -> str | None:
    return next(
        (f"{one['before']:.4g} → {one['after']:.4g}" for one in verdict["changes"] if one["name"] == name), None
    )


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if prefix or name not in NOT_COMPARED:
            found |= flat(inner, f"{prefix}.{name}" if prefix else name)
    return found


def shown(value: Any) -> Any:
    return f"{value[:59]}…" if isinstance(value, str) and len(value) > 60 else value
