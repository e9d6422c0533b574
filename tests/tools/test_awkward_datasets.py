"""Datasets as they come: each gets the right verdict, its problems, and a mapping that runs and trains."""

from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import tiny_model
from tests.tools.awkward import CASES
from tests.training.making import told, trained
from tests.training.test_vision import tiny_llava, tiny_vit, tiny_yolos
from tools.context import Context, inside
from tools.data.first import first_rows
from tools.data.source import open_source
from tools.datasets import inspect_dataset, prepare_dataset
from tools.planning import plan_training
from tools.training import write_training_script

pytestmark = pytest.mark.usefixtures("context")
FAST_TRAINING = ("nested_nulls_and_mixed_types",)
QUICK = {"max_steps": 2, "max_length": 128, "max_completion_length": 8}
REWARD = "def reward(completions, **_):\n    return [float(len(str(one)) % 7) for one in completions]"


@pytest.mark.parametrize("name", CASES)
def test_the_audit_gives_the_right_verdict_and_a_mapping_that_runs(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    folder = tmp_path / "given"
    folder.mkdir()
    path = str(case.build(folder))
    found = inspect_dataset(path, case.method)
    verdict = found["verdicts"][case.method]
    assert verdict["verdict"] == case.verdict, verdict["reason"]
    assert verdict["reason"]
    assert found["rows"] == case.rows
    assert (found["form"] or "") == case.form or not case.form
    counts = {one["id"]: one["count"] for one in found["problems"]}
    for problem, count in case.problems.items():
        assert counts.get(problem) == count, found["problems"]
    unexpected = set(counts) - set(case.problems) - {"no_validation", "few", "near_duplicates", "mixed_types"}
    assert not unexpected, found["problems"]
    if case.verdict == "incompatible":
        assert verdict["mapping"] is None
        return
    names: dict[str, Any] = {}
    exec(verdict["mapping"], names)
    first = first_rows(open_source(path))[0]
    made = names["to_rows"](first)
    assert made and tuple(made[0]) == case.columns


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST_TRAINING else pytest.mark.slow)
        for name, case in CASES.items()
        if case.verdict != "incompatible"
    ],
)
def test_it_trains_by_the_script_of_its_plan(name: str, tmp_path: Path, home: Path) -> None:
    """As it lies where the audit says so, else as it was prepared: by the generated script, as a program."""
    case = CASES[name]
    given = tmp_path / "given"
    given.mkdir()
    data = str(case.build(given))
    audit = inspect_dataset(data, case.method)
    if audit["prepare_first"]:
        data = prepare_dataset(data, case.method, out=str(tmp_path / "made"))["folder"]
    method = {"classification": "sequence-classification"}.get(case.method, case.method.replace("_", "-"))
    plan = plan_training(str(model_for(method, home)), data, method, hardware="local", overrides=QUICK)["plan"]
    plan["hyper"]["image_size"] = plan["hyper"].get("image_size") and 64
    with inside(Context(home=home, offline=True)):
        folder = Path(write_training_script(plan, "one", REWARD if method == "grpo" else None)["folder"])
    trained(folder)
    result = told(folder, "result.json")
    assert (result["status"], result["steps"]) == ("succeeded", 2)
    assert result["metrics"]["train_loss"] == result["metrics"]["train_loss"]  # not NaN
    assert result["facts"]["rows_kept"] >= min(3, case.rows)


def model_for(method: str, home: Path) -> Path:
    if method in ("vision-sft", "vision-dpo"):
        return tiny_llava(home / "llava")
    made = {"image-classification": tiny_vit, "object-detection": tiny_yolos}.get(method)
    return made(home / method) if made else tiny_model()
