# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Is the second result better than the first? Paired by row; the last line is the verdict.

Takes two results of evaluate.py over the same rows with the same settings, and refuses others.
"""

import argparse
import json
import math
import random
import sys
from pathlib import Path

WIN = 0.005
DRAWS = 2000


def p_value(better: int, worse: int) -> float:
    """McNemar, exact: how likely so uneven a split of the rows that changed is by chance."""
    changed = better + worse
    if not changed:
        return 1.0
    tail = sum(math.comb(changed, k) for k in range(min(better, worse) + 1)) / 2**changed
    return min(1.0, 2 * tail)


def interval(differences: list[int], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean difference."""
    draw = random.Random(seed)
    n = len(differences)
    means = sorted(sum(draw.choices(differences, k=n)) / n for _ in range(DRAWS))
    return means[int(0.025 * DRAWS)], means[int(0.975 * DRAWS) - 1]


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
    delta = (better - worse) / len(pairs)
    low, high = interval(differences)
    told = {
        "base": base["score"],
        "tuned": tuned["score"],
        "delta": round(delta, 6),
        "interval_95": [round(low, 4), round(high, 4)],
        "n": len(pairs),
        "became_right": better,
        "became_wrong": worse,
        "p": round(p_value(better, worse), 6),
        "significant": bool(low > 0 or high < 0),
    }
    print(json.dumps(told, indent=2))
    verdict = "WIN" if delta >= WIN else "MARGINAL" if delta >= 0 else "REGRESSION"
    print(f"VERDICT: {verdict}{'' if told['significant'] else ' (not significant)'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
