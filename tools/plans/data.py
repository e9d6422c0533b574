"""What the audit says about a dataset, as far as a plan needs it.

One function asks the audit. Without a dataset, or when it cannot be inspected, rows and lengths are assumed and the
plan says so.
"""

import inspect
from dataclasses import dataclass, field
from typing import Any

from tools.context import ToolError

ASSUMED_ROWS, ASSUMED_TOKENS = 1_000, 512
OWN_NAMES = {"classification": "sequence-classification"}  # the audit's word -> the plan's


@dataclass(frozen=True)
class Verdict:
    method: str
    verdict: str  # ready | needs mapping | incompatible
    reason: str = ""
    mapping: str | None = None


@dataclass(frozen=True)
class Facts:
    id: str = ""
    rows: int = ASSUMED_ROWS
    typical: int = ASSUMED_TOKENS  # tokens of the middle row
    mean: int = ASSUMED_TOKENS
    long: int = 2 * ASSUMED_TOKENS  # all but a few rows are shorter
    longest: int = 2 * ASSUMED_TOKENS
    best: str = ""  # the method the data is made for
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    fingerprint: str | None = None
    splits: dict[str, int] = field(default_factory=dict)
    assumed: str = f"{ASSUMED_ROWS:,} rows of {ASSUMED_TOKENS} tokens"  # "" when all of it is known


def facts_of(dataset: str, model: str) -> Facts:
    if not dataset.strip():
        return Facts(assumed=f"{Facts.assumed}, because no dataset was named")
    try:
        from tools.datasets import inspect_dataset  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        return Facts(id=dataset, assumed=f"{Facts.assumed}, because no tool to inspect datasets is installed here")
    wanted = {"tokenizer": model, "model": model}
    known = inspect.signature(inspect_dataset).parameters
    return facts_from(dataset, inspect_dataset(dataset, **{k: v for k, v in wanted.items() if k in known}))


def facts_from(dataset: str, audit: dict[str, Any]) -> Facts:
    """The audit's own words in ours; what it does not tell is assumed, and named."""
    told = audit.get("audit") or audit.get("details") or audit
    told = told if isinstance(told, dict) else audit
    rows = told.get("rows")
    if rows == 0:
        raise ToolError(f"{dataset!r} has no rows. Choose another split or dataset.")
    lengths = told.get("lengths") or told.get("tokens") or {}
    mean = value_of(lengths, "mean", "average", "p50", "median")
    assumed = []
    if not isinstance(rows, int):
        rows, assumed = ASSUMED_ROWS, [f"{ASSUMED_ROWS:,} rows"]
    if not mean:
        mean, assumed = ASSUMED_TOKENS, [*assumed, f"{ASSUMED_TOKENS} tokens a row"]
    long = value_of(lengths, "p99", "p98", "p95", "p90", "max") or 2 * mean
    verdicts = {one.method: one for one in verdicts_in(told.get("methods") or told.get("verdicts") or [])}
    best = told.get("best") or told.get("method") or ""
    return Facts(
        id=dataset,
        rows=rows,
        typical=value_of(lengths, "p50", "median") or mean,
        mean=mean,
        long=long,
        longest=value_of(lengths, "max", "longest") or long,
        best=own_name(best) if isinstance(best, str) else "",
        verdicts=verdicts,
        fingerprint=told.get("fingerprint"),
        splits=counts(told.get("splits")),
        assumed=" and ".join(assumed) + (" (the audit does not tell)" if assumed else ""),
    )


def verdicts_in(told: Any) -> list[Verdict]:
    if isinstance(told, dict):
        told = [value | {"method": name} for name, value in told.items() if isinstance(value, dict)]
    return [
        Verdict(own_name(one["method"]), one.get("verdict", ""), one.get("reason", ""), one.get("mapping"))
        for one in told
        if isinstance(one, dict) and one.get("method")
    ]


def own_name(method: str) -> str:
    name = method.replace("_", "-")
    return OWN_NAMES.get(name, name)


def value_of(lengths: Any, *names: str) -> int:
    values = lengths if isinstance(lengths, dict) else {}
    return next((int(values[name]) for name in names if values.get(name)), 0)


def counts(splits: Any) -> dict[str, int]:
    if isinstance(splits, dict):
        return {name: rows for name, rows in splits.items() if isinstance(rows, int)}
    return {}
