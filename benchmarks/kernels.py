"""Kernels: a sentence to its report, RMSNorm on this CPU beside torch, planted faults, right kernels called wrong.

`python -m benchmarks.kernels [sentence|speed|faults|right]`. The sentence goes through the recipes, the sandbox and the
tools as a person's would; speeds are those of its own micro-benchmark, where a kernel cannot reach the clock.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.table import Row, show

ROOT = Path(__file__).parents[1]
SENTENCE = "Build a vectorized RMSNorm kernel for H100 targeting Qwen3-8B."
STATES = ["spec", "scaffold", "compile", "numerics", "load", "report"]
MINUTES_BAR, EAGER_BAR, COMPILED_BAR = 4.0, 1 / 3, 1.0


def agent(home: Path, *words: str) -> float:
    """Minutes that a command of ours took; it must succeed."""
    env = os.environ | {"MODELSMITH_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    command = [sys.executable, "-m", "agent", *words]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(words)} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return (time.monotonic() - began) / 60


def evidence(project: Path, state: str) -> dict[str, Any]:
    path = project / "evidence" / f"{state}.json"
    return json.loads(path.read_text()) if path.exists() else {"status": "missing", "parts": []}


def sentence(home: Path) -> list[Row]:
    minutes = agent(home, "run", SENTENCE, "--model", "recipes", "--yes")
    project = only_project(home)
    failed = [state for state in STATES if evidence(project, state)["status"] != "pass"]
    return [
        Row("sentence to report", minutes, "min", MINUTES_BAR),
        Row("states of it that do not pass", len(failed), "", 0, note=", ".join(failed)),
    ]


def only_project(home: Path) -> Path:
    return next(path.parent for path in sorted((home / "kernels").glob("*/kernel.json")))


def speed(home: Path) -> list[Row]:
    if not (home / "kernels").exists():
        sentence(home)
    project = only_project(home)
    agent(home, "tools", "call", "benchmark_kernel", f"kernel={project.name}")
    rows = []
    for part in evidence(project, "microbench")["parts"]:
        if part["status"] == "not_run":
            continue
        if part["status"] == "fail":
            raise RuntimeError(f"{part['name']}: {part['reason']}")
        own, times = part["numbers"]["function_us"], part["numbers"]
        name = part["name"].replace(" eps=1e-06", "")
        note = f"{own:.1f} µs"
        rows.append(Row(name, own / times["eager_us"], "x", EAGER_BAR, "eager", note))
        rows.append(Row(name, own / times["compiled_us"], "x", COMPILED_BAR, "torch.compile", note))
    return rows


def faults(home: Path) -> list[Row]:
    judge = import_module("tests.kernel.faults")
    missed = [one["name"] for one in judge.FAULTS if not judge.verdict(one)]
    return [Row(f"planted faults missed, of {len(judge.FAULTS)}", len(missed), "", 0, note=", ".join(missed))]


def right(home: Path) -> list[Row]:
    judge = import_module("tests.kernel.faults")
    called = [f"{one['name']}: {said}" for one in judge.RIGHT if (said := judge.verdict(one))]
    return [Row(f"right kernels called wrong, of {len(judge.RIGHT)}", len(called), "", 0, note="; ".join(called))]


PARTS = {"sentence": sentence, "speed": speed, "faults": faults, "right": right}


def main(wanted: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="kernels-") as home:
        rows = [row for name in wanted or PARTS for row in PARTS[name](Path(home))]
    return show("kernels", rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
