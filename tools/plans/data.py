"""What the audit says about a dataset, as far as a plan needs it.

One function asks the audit. Without a dataset, or when the Hub cannot be asked for it, rows and lengths are assumed and
the plan says so; a dataset that is wrong is an error.
"""

import logging
from dataclasses import dataclass, field
from typing import Any

from tools.context import ToolError
from tools.hubs.client import Missing, Unreachable

ASSUMED_ROWS, ASSUMED_TOKENS = 1_000, 512
OWN_NAMES = {"classification": "sequence-classification"}  # the audit's word -> the plan's
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    method: str
    verdict: str  # ready | needs mapping | incompatible
    reason: str = ""
    mapping: str | None = None
    form: str = ""


@dataclass(frozen=True)
class Facts:
    id: str = ""
    rows: int = ASSUMED_ROWS
    typical: int = ASSUMED_TOKENS  # tokens of the middle row
    mean: int = ASSUMED_TOKENS
    long: int = 2 * ASSUMED_TOKENS  # all but one in a hundred are shorter
    longest: int = 2 * ASSUMED_TOKENS
    best: str = ""  # the method the data is made for
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    fingerprint: str | None = None
    splits: dict[str, int] = field(default_factory=dict)
    assumed: str = f"{ASSUMED_ROWS:,} rows of {ASSUMED_TOKENS} tokens"  # "" when all of it is known
    problems: int = 0
    prepare_first: str = ""  # why it cannot be trained on as it lies


def facts_of(dataset: str, tokenizer: str) -> Facts:
    if not dataset.strip():
        return Facts(assumed=f"{Facts.assumed}, because no dataset was named")
    try:
        from tools.datasets import inspect_dataset
    except ImportError as problem:
        log.warning("datasets cannot be inspected: %s", problem)
        return Facts(id=dataset, assumed=f"{Facts.assumed}, because datasets cannot be inspected here ({problem})")
    try:
        return facts_from(dataset, inspect_dataset(dataset, tokenizer=tokenizer))
    except Missing:
        raise
    except ToolError as problem:
        if not isinstance(problem, Unreachable) and "local cache" not in str(problem):
            raise
        return Facts(id=dataset, assumed=f"{Facts.assumed}, because the dataset could not be read: {problem}")


def facts_from(dataset: str, audit: dict[str, Any]) -> Facts:
    """The audit's facts in the plan's words; without lengths (images, empty texts) those are assumed."""
    rows = int(audit["good_rows"] or audit["rows"])
    if not rows:
        raise ToolError(f"{dataset!r} has no usable rows. Look at inspect_dataset({dataset!r}) for the reason.")
    verdicts = {
        own_name(name): Verdict(own_name(name), one["verdict"], one["reason"], one["mapping"], one["form"])
        for name, one in audit["verdicts"].items()
    }
    known = {
        "id": dataset,
        "rows": rows,
        "best": own_name(audit["method"] or ""),
        "verdicts": verdicts,
        "fingerprint": audit["fingerprint"],
        "splits": audit["splits"],
        "problems": len(audit["problems"]),
        "prepare_first": audit["prepare_first"],
    }
    lengths = audit["lengths"]
    if not lengths or not lengths["total"]:
        return Facts(**known, assumed=f"{ASSUMED_TOKENS} tokens a row")
    guess = "token counts from bytes / 4, because no tokenizer was found" if lengths["estimated"] else ""
    mean = max(1, lengths["total"] // max(1, int(audit["rows"])))
    measured = {"typical": lengths["p50"], "mean": mean, "long": lengths["p99"], "longest": lengths["longest"]}
    return Facts(**known, **measured, assumed=guess)


def own_name(method: str) -> str:
    name = method.replace("_", "-")
    return OWN_NAMES.get(name, name)
