# /// script
# requires-python = ">=3.11"
# dependencies = ["trackio==0.43.0"]
# ///
"""Compare the runs of a Trackio project by one metric: first, last, best, what differs, alerts. Prints JSON.

Reads the local database only. Without --metric it lists which metrics each run has.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

STEP = "train/global_step"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", required=True)
    parser.add_argument("--metric", help="for example train/loss or eval/loss")
    parser.add_argument("--highest", action="store_true", help="the highest value is the best, not the lowest")
    parser.add_argument("--dir", type=Path, help="TRACKIO_DIR, if it is not set")
    args = parser.parse_args()
    if args.dir:
        if not args.dir.is_dir():
            print(f"There is no folder {args.dir}. Name the TRACKIO_DIR of the runs.", file=sys.stderr)
            return 2
        os.environ["TRACKIO_DIR"] = str(args.dir.resolve())

    from trackio.sqlite_storage import SQLiteStorage

    if args.project not in SQLiteStorage.get_projects():
        known = ", ".join(SQLiteStorage.get_projects()) or "none"
        print(f"There is no project {args.project}. There are: {known}.", file=sys.stderr)
        return 2
    records = SQLiteStorage.get_run_records(args.project)
    runs = [told(SQLiteStorage, args.project, record, args.metric, args.highest) for record in records]
    answer: dict[str, Any] = {"project": args.project, "metric": args.metric, "runs": runs}
    if args.metric:
        able = [run for run in runs if run["best"] is not None]
        if not able:
            print(
                f"No run of {args.project} has {args.metric}. Leave --metric out to see what there is.", file=sys.stderr
            )
            return 2
        best = (max if args.highest else min)(able, key=lambda run: run["best"])
        answer["best_run"] = best["run"]
        answer["configs_differ_in"] = differing([run["config"] for run in runs])
    print(json.dumps(answer, indent=2))
    return 0


def told(storage: Any, project: str, record: dict, metric: str | None, highest: bool) -> dict[str, Any]:
    name, run_id = record["name"], record["id"]
    rows = storage.get_logs(project, name, run_id=run_id)
    config = storage.get_run_config(project, name, run_id=run_id) or {}
    shown: dict[str, Any] = {
        "run": name,
        "run_id": run_id,
        "rows": len(rows),
        "config": {key: value for key, value in config.items() if not key.startswith("_")},
        "alerts": [
            {key: alert[key] for key in ("level", "title", "text", "step")}
            for alert in storage.get_alerts(project, name, run_id=run_id)
        ],
    }
    if not metric:
        keys = {key for row in rows for key in row} - {"timestamp", "step"}
        return {**shown, "metrics": sorted(keys)}
    points = last_of_each_step(rows, metric)
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    best = (max if highest else min)(finite, key=lambda point: point[1]) if finite else (None, None)
    return {
        **shown,
        "points": len(points),
        "not_finite": len(points) - len(finite),
        "first": finite[0][1] if finite else None,
        "last": finite[-1][1] if finite else None,
        "best": best[1],
        "best_at_step": best[0],
    }


def last_of_each_step(rows: list[dict], metric: str) -> list[tuple[Any, float]]:
    """A resumed run wrote some steps twice: the later row counts."""
    found: dict[Any, float] = {}
    for row in rows:
        value = row.get(metric)
        value = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value, value)  # as it is stored
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[row.get(STEP, row["step"])] = float(value)
    return list(found.items())


def differing(configs: list[dict]) -> list[str]:
    keys = {key for config in configs for key in config}
    return sorted(key for key in keys if len({json.dumps(config.get(key), default=str) for config in configs}) > 1)


if __name__ == "__main__":
    sys.exit(main())
