"""What the preflight finds: faults planted into scripts, plans, data and models, and good scripts beside them.

`python -m benchmarks.preflight`. The cases are those of tests/training/test_preflight.py; each is rehearsed as it is in
use, one after the other. A fault counts as caught when the check that names it is the one that was meant.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.table import Row, show
from tests.training.test_preflight import FAULTS, GOOD, Case


def main() -> int:
    missed, alarms, slowest = [], [], 0.0
    with tempfile.TemporaryDirectory(prefix="bench-preflight-") as place:
        for number, (change, method, check) in enumerate([*FAULTS, *((one, method, "") for one, method in GOOD)]):
            case = Case(Path(place) / str(number), method)
            change(case)
            told = case.rehearsed()
            slowest = max(slowest, told["seconds"])
            failed = [one["check"] for one in told["findings"] if not one["ok"]]
            name = f"{method} {change.__name__}"
            if check and not (failed and failed[0].startswith(check)):
                missed.append(name)
            if not check and failed:
                alarms.append(name)
            print(f"{name}: {told['seconds']:.0f} s, {', '.join(failed) or 'passed'}", flush=True)
    return show(
        "preflight",
        [
            Row("planted faults that were missed", len(missed), "", 0, note=f"of {len(FAULTS)} {' '.join(missed)}"),
            Row("false alarms", len(alarms), "", 0, note=f"on {len(GOOD)} good scripts {' '.join(alarms)}"),
            Row("slowest rehearsal", slowest, "s", 90),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
