# /// script
# requires-python = ">=3.11"
# dependencies = ["pyarrow==26.0.1"]
# ///
"""Remove duplicates and split rows into train.jsonl and test.jsonl without leaks. Prints JSON.

Rows that ask the same stay together, and the side of a row depends on its text and the seed alone, so that a grown file
keeps its test rows. The share of test rows is therefore only about what was asked for.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from rows import Unusable, normal, question, read


def is_test(row: dict[str, Any], share: float, seed: int) -> bool:
    digest = hashlib.sha256(f"{seed}\0{question(row)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--into", type=Path, required=True, help="folder for the two files")
    parser.add_argument("--test", type=float, default=0.1, help="share of test rows (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not 0 < args.test < 1:
        parser.error("--test must lie between 0 and 1")
    try:
        rows = read(args.source)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    distinct = list({normal(list(row.values())): row for row in reversed(rows)}.values())[::-1]
    sides: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for row in distinct:
        sides["test" if is_test(row, args.test, args.seed) else "train"].append(row)
    args.into.mkdir(parents=True, exist_ok=True)
    for name, kept in sides.items():
        with (args.into / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    told = {
        "source": str(args.source),
        "rows": len(rows),
        "duplicates_removed": len(rows) - len(distinct),
        "train": len(sides["train"]),
        "test": len(sides["test"]),
        "seed": args.seed,
    }
    (args.into / "split.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    print(json.dumps(told))
    if not (sides["train"] and sides["test"]):
        print(
            "One side is empty: there are too few different questions. Take another --test or --seed.", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
