# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Every state of a kernel project in order, each in a process of its own; then the report.

On a machine with a GPU the same command fills what was not_run elsewhere. Stops at a state that others build on if it
fails, and always writes the report.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import evidence

HERE = Path(__file__).parent
ORDER = ["scaffold", "compile", "numerics", "load", "microbench", "endtoend"]
GROUND = {"scaffold", "compile"}  # without these the others mean nothing


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--states", nargs="+", choices=ORDER, default=ORDER, metavar="STATE", help=", ".join(ORDER))
    given = parser.parse_args(argv)
    failed = []
    for state in given.states:
        code = subprocess.run([sys.executable, HERE / f"{state}.py", given.project], check=False).returncode
        if code == 2:
            return 2
        if code and (evidence.read(given.project, state) or {}).get("status") != "fail":
            print(f"{state}: it ended with {code} and left no verdict", file=sys.stderr)
        failed += [state] if code else []
        if code and state in GROUND:
            break
    subprocess.run([sys.executable, HERE / "report.py", given.project], check=True)
    print(f"FAILED: {', '.join(failed)}" if failed else "PASSED as far as this machine can tell")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
