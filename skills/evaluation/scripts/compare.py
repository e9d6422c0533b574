# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Is the second result better than the first? Paired by row; the last line is the verdict.

Takes two results of evaluate.py over the same rows with the same settings, and refuses others. A difference is real if
its 95 % interval leaves out 0 and McNemar's test gives it less than one chance in twenty. A real gain from 0.02 on is
a WIN, a smaller one MARGINAL, a real loss a REGRESSION; all else, and fewer than 10 rows, is NO EVIDENCE. Training
runs of Modelsmith are judged by the same rule.
"""

import argparse
import json
import math
import random
import statistics
import sys
from pathlib import Path

LEAST_ROWS, WORTH, CHANCE = 10, 0.02, 0.05
DRAWS = 2000


def p_value(better: int, worse: int) -> float:
    """McNemar, exact: how likely so uneven a split of the rows that changed is by chance."""
    changed = better + worse
    if not changed:
        return 1.0
    tail = sum(math.comb(changed, k) for k in range(min(better, worse) + 1)) / 2**changed
    return min(1.0, 2 * tail)


def interval(differences: list[int], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean difference: the wider of the bootstrap's and the paired t's."""
    draw = random.Random(seed)
    n, mean = len(differences), statistics.fmean(differences)
    means = sorted(sum(draw.choices(differences, k=n)) / n for _ in range(DRAWS))
    half = student(n - 1) * statistics.stdev(differences) / math.sqrt(n) if n > 1 else math.inf
    return min(means[int(0.025 * DRAWS)], mean - half), max(means[int(0.975 * DRAWS) - 1], mean + half)


def student(freedom: int) -> float:
    """Student's t at 95 %, by its expansion around the normal's."""
    z = 1.959964
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def judged(differences: list[int]) -> tuple[str, tuple[float, float], float]:
    """The verdict, the interval and the p-value."""
    low, high = interval(differences)
    p = p_value(differences.count(1), differences.count(-1))
    if len(differences) < LEAST_ROWS or p >= CHANCE or low <= 0 <= high:
        return "NO EVIDENCE", (low, high), p
    if high < 0:
        return "REGRESSION", (low, high), p
    return ("WIN" if statistics.fmean(differences) >= WORTH else "MARGINAL"), (low, high), p


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("tuned", type=Path)
    args = parser.parse_args()
    try:
        base, tuned = (json.loads(path.read_text("utf-8")) for path in (args.base, args.tuned))
        same = [base["data"]["sha256"] == tuned["data"]["sha256"], base["settings"] == tuned["settings"]]
        pairs = list(zip(base["right"], tuned["right"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        print(f"These are no two results of evaluate.py: {error!r}.", file=sys.stderr)
        return 2
    if not all(same):
        what = "settings" if same[0] else "rows"
        print(
            f"The two were run with different {what}: they cannot be compared. Run one of them again.", file=sys.stderr
        )
        return 2
    differences = [int(after) - int(before) for before, after in pairs]
    better, worse = differences.count(1), differences.count(-1)
    verdict, (low, high), p = judged(differences)
    told = {
        "base": base["score"],
        "tuned": tuned["score"],
        "delta": round((better - worse) / len(pairs), 6),
        "interval_95": [round(low, 4), round(high, 4)],
        "n": len(pairs),
        "became_right": better,
        "became_wrong": worse,
        "p": round(p, 6),
        "significant": verdict != "NO EVIDENCE",
    }
    print(json.dumps(told, indent=2))
    print(f"VERDICT: {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
