"""Kernels: a sentence to its report, RMSNorm on this CPU beside torch, planted faults, right kernels called wrong.

`python -m benchmarks.kernels [sentence|speed|faults|right]`, all of them in about eight minutes; a part alone keeps its
rows in results/kernels-<part>.json. The sentence goes through the recipes, the sandbox and the tools as a person's
would; speeds are those of the skill's own micro-benchmark, where a kernel cannot reach the clock.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from agent.sandbox.jail import SandboxJail
from agent.settings import load_settings
from benchmarks.table import Row, keep, tell
from tools import kernels
from tools.context import Context, inside
from tools.kernel import place, states

ROOT = Path(__file__).parents[1]
SENTENCE = "Build a vectorized RMSNorm kernel for H100 targeting Qwen3-8B."
STATES = ["spec", "scaffold", "compile", "numerics", "load", "report"]
MINUTES_BAR, EAGER_BAR, COMPILED_BAR = 4.0, 1 / 3, 1.0


def sentence(home: Path) -> Iterator[Row]:
    env = os.environ | {"MODELSMITH_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "agent", "run", SENTENCE, "--model", "recipes", "--yes"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise RuntimeError(f"it ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    yield Row("sentence to report", (time.monotonic() - began) / 60, "min", MINUTES_BAR)
    project = next((home / "kernels").glob("*/kernel.json")).parent
    found = {state: place.evidence(project, state) for state in STATES}
    wrong = [state for state, one in found.items() if one is None or one["status"] != "pass"]
    yield Row("states of it that do not pass", len(wrong), "", 0, note=", ".join(wrong))


def speed(home: Path) -> Iterator[Row]:
    with inside(Context(home=home, jail=SandboxJail(load_settings(home=home)), offline=True, progress=progress)):
        folder = Path(kernels.new_kernel("rms_norm", "H100", "Qwen3-8B", name="speed")["folder"])
        states.run(folder, "compile", "--only", "cpu")
        timed = states.run(folder, "microbench")
    for part in timed["parts"]:
        if part["status"] == "not_run":
            continue
        if part["status"] == "fail":
            raise RuntimeError(f"{part['name']}: {part['reason']}")
        own, times = part["numbers"]["function_us"], part["numbers"]
        name, note = part["name"].replace(" eps=1e-06", ""), f"{own:.1f} µs"
        yield Row(name, own / times["eager_us"], "x", EAGER_BAR, "eager", note)
        yield Row(name, own / times["compiled_us"], "x", COMPILED_BAR, "torch.compile", note)


def progress(done: float | None, text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def faults(home: Path) -> Iterator[Row]:
    judge = import_module("tests.kernel.faults")
    missed = [one["name"] for one in judge.FAULTS if judge.verdict(one) is None]
    yield Row(f"planted faults missed, of {len(judge.FAULTS)}", len(missed), "", 0, note=", ".join(missed))


def right(home: Path) -> Iterator[Row]:
    judge = import_module("tests.kernel.faults")
    called = [f"{one['name']}: {said}" for one in judge.RIGHT if (said := judge.verdict(one))]
    yield Row(f"right kernels called wrong, of {len(judge.RIGHT)}", len(called), "", 0, note="; ".join(called))


PARTS = {"sentence": sentence, "speed": speed, "faults": faults, "right": right}


def main(wanted: list[str]) -> int:
    name, rows = "-".join(["kernels", *wanted]), []
    for part in wanted or PARTS:
        with tempfile.TemporaryDirectory(prefix="kernels-") as home:
            for row in PARTS[part](Path(home)):
                tell(row)
                rows.append(row)
                keep(name, rows)
    return 0 if all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
