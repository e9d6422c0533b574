"""The worked patterns: right on every device this machine has, and whole projects of them through the states."""

import json
import subprocess
import sys

import pytest

from tests.kernel.bench import PATTERNS, SKILL, Stage

NAMES = sorted(path.parent.name for path in PATTERNS.glob("*/oracle.py"))
QUICK = ["rms_norm", "rope"]


def each(quick):
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in NAMES]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", each(QUICK))
def test_a_pattern_is_right_on_the_cpu_and_in_the_emulator(name, tmp_path):
    stage = Stage(name, tmp_path)
    dtypes = ["float32"] if name in QUICK else None
    assert stage.rows() is None
    assert stage.cuda(dtypes) is None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", each(["rope"]))
def test_a_pattern_is_right_in_tritons_interpreter(name, tmp_path):
    assert Stage(name, tmp_path).triton(["float16"] if name in QUICK else None) is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_a_project_of_a_pattern_passes_every_state_this_machine_has(name, tmp_path):
    project = tmp_path / name
    run(
        "spec.py",
        project,
        "--pattern",
        name,
        "--target",
        "H100",
        "--model",
        "Qwen3-0.6B" if name != "layer_norm" else "gpt2",
    )
    for state in ("scaffold", "compile", "numerics", "load", "report"):
        run(f"{state}.py", project)
    for state in ("spec", "scaffold", "compile", "numerics", "load"):
        told = json.loads((project / "evidence" / f"{state}.json").read_text())
        assert told["status"] == "pass", (state, told["reason"])
    killed = next(
        one for one in json.loads((project / "evidence/numerics.json").read_text())["parts"] if one["name"] == "mutants"
    )
    assert killed["numbers"]["survivors"] == [] and killed["numbers"]["of"] >= 8


def run(script, project, *more):
    command = [sys.executable, SKILL / "scripts" / script, project, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
