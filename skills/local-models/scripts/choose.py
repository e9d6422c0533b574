# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Choose an open model for the memory of this machine, with the command that serves it. Prints JSON.

The table is a dated suggestion from documentation, no measurement; its age is told.
"""

import argparse
import datetime
import json
import os
import subprocess
import tomllib
from pathlib import Path

TABLE = Path(__file__).parents[1] / "assets" / "models.toml"
OLD = datetime.timedelta(days=183)
URLS = {"llama-server": "http://127.0.0.1:8080/v1", "vllm": "http://127.0.0.1:8000/v1"}


def gpu_gib() -> float:
    """What nvidia-smi tells of all cards together; 0 without one."""
    ask = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0.0
    return sum(int(line) for line in told.split() if line.isdigit()) / 1024


def choose(gib: float, table: dict, today: datetime.date) -> dict:
    """The largest row that fits; the row for 0 GiB is for a CPU."""
    fitting = [row for row in table["row"] if row["gib"] == 0 or row["gib"] <= gib]
    row = max(fitting, key=lambda row: row["gib"])
    old = today - table["date"] > OLD
    return {
        "gpu_gib": round(gib, 1),
        "model": row["model"],
        "note": row["note"],
        "start": row["start"],
        "url": URLS.get(row["start"].split()[0], ""),
        "table_of": table["date"].isoformat(),
        "warning": "The table is more than six months old: look for newer models." if old else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, help="GPU memory in GiB (default: this machine's)")
    parser.add_argument("--table", type=Path, default=TABLE, help="another table of the same shape")
    args = parser.parse_args()
    if args.gib is not None and args.gib < 0:
        parser.error("--gib must not be negative")
    gib = gpu_gib() if args.gib is None else args.gib
    chosen = choose(gib, tomllib.loads(args.table.read_text("utf-8")), datetime.date.today())
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(json.dumps({**chosen, "ram_gib": round(ram, 1)}, indent=2))


if __name__ == "__main__":
    main()
