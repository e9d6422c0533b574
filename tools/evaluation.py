"""Did training make the model better? A verdict computed from eval.json: the same held-out rows before and after.

The difference is taken row by row. Its 95 % confidence interval is the wider of the bootstrap's over the rows and the
paired t's, for each alone is too narrow where rows are few or skewed. A change counts as real if the interval leaves
out 0 and a sign-flip test (over answers right or wrong: McNemar's) gives it less than one chance in twenty. Seeds are
fixed. A verdict speaks of these rows only: how far they stand for others, no number here can tell.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.running import record

LEAST_ROWS = 10  # fewer held-out rows are no evidence, whatever they say
WORTH_RATE = 0.02  # of a value between 0 and 1, like accuracy: the least mean gain that is a win
WORTH_SHARE = 0.02  # of any other value, like a loss: the least gain as a share of the value before
RESAMPLES, SEED, CONFIDENCE = 5000, 0, 0.95
NORMAL = 1.959964  # quantile of the normal distribution for that confidence
LOWER_IS_BETTER = ("loss", "perplexity", "error", "distance")


@dataclass(frozen=True)
class Change:
    """One measure over the rows that have it both times. `gain` is positive when it got better."""

    name: str
    rows: int
    before: float
    after: float
    gain: float
    low: float
    high: float
    p: float  # how often so large a change comes by chance, if training changed nothing
    worth: bool  # large enough to be called a win
    higher_is_better: bool

    @property
    def better(self) -> bool:
        return self.low > 0 and self.p < 1 - CONFIDENCE

    @property
    def worse(self) -> bool:
        return self.high < 0 and self.p < 1 - CONFIDENCE

    def told(self) -> str:
        arrow = "higher" if self.higher_is_better else "lower"
        return (
            f"{self.name} ({arrow} is better) {self.before:.4g} → {self.after:.4g} on {self.rows} rows; "
            f"gain {self.gain:+.4g}, 95 % between {self.low:+.4g} and {self.high:+.4g}, p = {self.p:.2g}"
        )

    def doubt(self) -> str:
        if self.low > 0 or self.high < 0:
            return f"too few rows changed to rule out chance (p = {self.p:.2g})"
        return "the interval holds 0"


def verdict(folder: Path) -> dict[str, Any]:
    """`verdict` (WIN, MARGINAL, REGRESSION, NO EVIDENCE), `metric` that it was computed from, `reason`, `changes` by
    measure, `samples` side by side."""
    told = record.part(folder / "eval.json")
    if not told or "before" not in told or "after" not in told:
        missing = "nothing was measured" if "before" not in told else "only the model before training was measured"
        return {"verdict": "NO EVIDENCE", "metric": None, "reason": f"{missing}.", "changes": [], "samples": []}
    changes = compare(told)
    word, metric, reason = judge(changes, str(told.get("metric") or "loss"))
    more = {"changes": [asdict(one) for one in changes], "samples": side_by_side(told)}
    return {"verdict": word, "metric": metric, "reason": reason, **more}


def judged_by(verdict: dict[str, Any]) -> str:
    """What to say after a verdict's word: the measure that it was computed from."""
    return f" (judged by {verdict['metric']})" if verdict["metric"] else ""


def compare(told: dict[str, Any]) -> list[Change]:
    """Every measure that both times gave numbers row by row, the task's own first."""
    before, after, own = told["before"], told["after"], told.get("metric")
    names = [name for name in before if name in after and isinstance(before[name], list) and name != "answers"]
    found = []
    for name in sorted(names, key=lambda name: name != own):
        rising = bool(told.get("higher_is_better", True)) if name == own else not name.endswith(LOWER_IS_BETTER)
        pairs = [(b, a) for b, a in zip(before[name], after[name], strict=False) if is_number(b) and is_number(a)]
        if pairs:
            found.append(change(name, pairs, rising))
    return found


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def change(name: str, pairs: list[tuple[float, float]], rising: bool) -> Change:
    import numpy

    old, new = numpy.array(pairs, dtype=float).T
    gains = (new - old) if rising else (old - new)
    low, high, p = doubt(gains)
    rate = bool(((old >= 0) & (old <= 1) & (new >= 0) & (new <= 1)).all()) and rising
    least = WORTH_RATE if rate else WORTH_SHARE * abs(float(old.mean()))
    gain = float(gains.mean())
    return Change(name, len(pairs), float(old.mean()), float(new.mean()), gain, low, high, p, gain >= least, rising)


def doubt(gains: Any) -> tuple[float, float, float]:
    """The ends of the mean's 95 % interval, and the p of the sign-flip test."""
    import numpy

    random = numpy.random.default_rng(SEED)
    rows, mean = len(gains), float(gains.mean())
    size = max(1, 2_000_000 // rows)  # resamples at a time, so that memory stays small
    drawn, flipped = [], []
    for begin in range(0, RESAMPLES, size):
        shape = (min(size, RESAMPLES - begin), rows)
        drawn.append(gains[random.integers(0, rows, shape)].mean(axis=1))
        flipped.append((gains * random.choice((-1.0, 1.0), shape)).mean(axis=1))
    low, high = numpy.quantile(numpy.concatenate(drawn), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    as_far = numpy.abs(numpy.concatenate(flipped)) >= abs(mean) * (1 - 1e-9)
    p = (1 + int(as_far.sum())) / (1 + RESAMPLES)
    half = student(rows - 1) * float(gains.std(ddof=1)) / math.sqrt(rows) if rows > 1 else math.inf
    return min(float(low), mean - half), max(float(high), mean + half), p


def student(freedom: int) -> float:
    """Student's t at that confidence, by its expansion around the normal's; within 0.2 % from 9 degrees on."""
    z = NORMAL
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def judge(changes: list[Change], own: str) -> tuple[str, str | None, str]:
    """The verdict, the measure that decided, and why. The task's own decides; the others where it says nothing."""
    if not changes:
        return "NO EVIDENCE", None, "no row has a number both before and after."
    if all(one.rows < LEAST_ROWS for one in changes):
        most = max(one.rows for one in changes)
        return "NO EVIDENCE", None, f"only {most} held-out rows were measured; at least {LEAST_ROWS} are needed."
    usable = [one for one in changes if one.rows >= LEAST_ROWS]
    main, others = usable[0], usable[1:]
    if main.worse:
        return "REGRESSION", main.name, f"{main.told()}."
    if main.better and main.worth:
        against = [one for one in others if one.worse]
        but = f" But {against[0].told()}." if against else ""
        return "WIN", main.name, f"{main.told()}.{but}"
    if main.better:
        return "MARGINAL", main.name, f"{main.told()}: surely better, but by little."
    unclear = f"{main.told()}: {main.doubt()}"
    if worse := next((one for one in others if one.worse), None):
        return "REGRESSION", worse.name, f"{unclear}, and {worse.told()}."
    if better := next((one for one in others if one.better and one.worth), None):
        return "MARGINAL", better.name, f"{unclear}, but {better.told()}."
    least = "" if main.name == own else f" ({own} has too few rows)"
    return "NO EVIDENCE", main.name, f"{unclear}{least}."


def side_by_side(told: dict[str, Any], most: int = 5) -> list[dict[str, Any]]:
    """Rows with the answer before and after, those whose answer changed most in value first."""
    before, after = told["before"].get("answers") or [], told["after"].get("answers") or []
    own = told.get("metric")
    old, new = told["before"].get(own) or [], told["after"].get(own) or []
    found = []
    for index, row in enumerate(told.get("rows") or []):
        if index >= min(len(before), len(after)) or before[index] is None or after[index] is None:
            continue
        both = index < min(len(old), len(new)) and is_number(old[index]) and is_number(new[index])
        moved = abs(new[index] - old[index]) if both else 0.0
        shown = {"row": index, **row, "before": before[index], "after": after[index]}
        found.append((-moved, before[index] == after[index], index, shown))
    found.sort(key=lambda one: one[:3])
    return [one[3] for one in found[:most]]
