"""Scripts written from plans, run as programs: each trains a tiny model, and what it leaves loads and answers."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import tiny_model
from tests.training.making import plan_for, rows_for, start, stop_when, told, trained, write_rows, written
from tools.context import Context, ToolError, inside
from tools.plan import read_plan
from tools.training import program, render, write_training_script

METRICS = {
    "sft": "exact_match",
    "dpo": "preference_accuracy",
    "grpo": "reward",
    "kto": "signed_log_probability",
    "reward": "accuracy",
    "cpt": "loss",
    "rloo": "reward",
    "distillation": "loss",
    "sequence-classification": "accuracy",
    "token-classification": "accuracy",
    "embeddings": "recall_at_1",
}
FAST = ("sft", "dpo")
METHODS = [pytest.param(one, marks=() if one in FAST else (pytest.mark.slow,)) for one in METRICS]


def made(home: Path, method: str, **changes: Any) -> Path:
    return written(home, plan_for(method, write_rows(home / "data" / "rows.jsonl", rows_for(method)), **changes))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("method", METHODS)
def test_a_generated_script_trains_and_its_model_loads_and_answers(method: str, home: Path) -> None:
    folder = made(home, method)
    output = trained(folder)
    result = told(folder, "result.json")
    assert (result["status"], result["steps"], result["planned_steps"]) == ("succeeded", 4, 4), output[-3000:]
    assert result["metrics"]["train_loss"] == result["metrics"]["train_loss"]  # not NaN
    assert result["peak_memory_mb"] > 100 and result["facts"]["rows_kept"] == 60
    measured = told(folder, "eval.json")
    assert measured["metric"] == METRICS[method]
    for when in ("before", "after"):
        values = measured[when][measured["metric"]]
        assert len(values) == len(measured["rows"]) >= 10 and any(one is not None for one in values)
    assert measured["before"]["loss" if "loss" in measured["before"] else "reward"] != measured["after"].get("loss")
    assert told(folder, "progress.json")["step"] == 4
    assert list((folder / "metrics").glob("*.db"))
    loads_and_answers(method, folder / "model")


def loads_and_answers(method: str, folder: Path) -> None:
    import torch
    import transformers

    heads = {"reward": "SequenceClassification", "embeddings": ""}
    heads |= {"sequence-classification": "SequenceClassification", "token-classification": "TokenClassification"}
    head = heads.get(method, "CausalLM")
    auto = getattr(transformers, f"AutoModelFor{head}" if head else "AutoModel")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = auto.from_pretrained(folder)
    batch = tokenizer("What is 1 plus 2?", return_tensors="pt")
    ids = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        out = model(**ids)
        assert torch.isfinite(out.logits if head else out.last_hidden_state).all()
        if head == "CausalLM":
            assert model.generate(**ids, max_new_tokens=3).shape[1] > ids["input_ids"].shape[1]
    if method == "sequence-classification":
        assert set(model.config.label2id) == {"big", "small"}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_scored_pairs_train_embeddings_by_their_order_and_are_judged_by_it(home: Path) -> None:
    """The numbers in the texts mean nothing, the colours do: so there is something to learn."""
    from scipy.stats import spearmanr

    kinds, rows = ("red", "blue", "green"), []
    for at in range(240):
        first, second = kinds[at % 3], kinds[at * 7 // 3 % 3]
        texts = {"sentence1": f"{first} {at * 13 % 97}", "sentence2": f"{at * 29 % 89} {second}"}
        rows.append(texts | {"score": 5.0 if first == second else 1.0 if "red" in (first, second) else 0.5})
    changes = {"hyper": plan_for("embeddings", home)["hyper"] | {"max_steps": 60, "per_device_train_batch_size": 16}}
    plan = plan_for("embeddings", write_rows(home / "rows.jsonl", rows), adapter={"kind": "none"}, **changes)
    folder = written(home, plan)
    output = trained(folder)
    measured = told(folder, "eval.json")
    assert measured["metric"] == "spearman" and len(measured["rows"]) == 48, output[-2000:]
    for when in ("before", "after"):
        near = [float(one.removeprefix("cosine ")) for one in measured[when]["answers"]]
        wanted = [float(one["reference"].removeprefix("score ")) for one in measured["rows"]]
        assert measured[when]["means"]["spearman"] == pytest.approx(spearmanr(near, wanted).statistic, abs=0.02)
    assert measured["after"]["means"]["spearman"] > measured["before"]["means"]["spearman"] + 0.2
    assert told(folder / "model", "pooling.json")["pooling"] == "mean"
    modules = [one["type"].rpartition(".")[2] for one in told(folder / "model", "modules.json")]
    assert modules == ["Transformer", "Pooling", "Normalize"]


@pytest.mark.timeout(400)
def test_a_stopped_run_says_cancelled_and_goes_on_from_its_checkpoint(home: Path) -> None:
    hyper = {"max_steps": 400, "eval_steps": 200, "packing": False}
    folder = made(home, "sft", hyper=plan_for("sft", home)["hyper"] | hyper)
    process = start(folder)
    output = stop_when(folder, process, "'grad_norm'")
    result = told(folder, "result.json")
    assert process.returncode == 130 and result["status"] == "cancelled", output[-3000:]
    assert 1 <= result["steps"] < 400 and result["planned_steps"] == 400
    assert Path(result["checkpoint"]).name == f"checkpoint-{result['steps']}"
    baseline = told(folder, "eval.json")["before"]
    script = folder / "train.py"
    goal = result["steps"] + 3
    script.write_text(re.sub(r"EPOCHS, MAX_STEPS = .*", f"EPOCHS, MAX_STEPS = 1.0, {goal}", script.read_text()))
    trained(folder)
    again = told(folder, "result.json")
    assert (again["status"], again["steps"]) == ("succeeded", goal)
    assert [row["step"] for row in again["log"]][:1] == [1]  # one history, begun in the first process
    assert told(folder, "eval.json")["before"] == baseline


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_loss_that_is_no_number_ends_the_run_as_failed_with_an_alert(home: Path) -> None:
    hyper = {"learning_rate": 1.0, "max_grad_norm": 1e9, "max_steps": 60, "packing": False, "warmup_steps": 0.0}
    hyper |= {"lr_scheduler_type": "constant"}
    changes = {"hyper": plan_for("sft", home)["hyper"] | hyper, "adapter": {"kind": "none"}}
    folder = made(home, "sft", **changes)
    script = folder / "train.py"
    script.write_text(
        script.read_text().replace(
            "LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 1.0", "LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 1e30"
        )
    )
    trained(folder, expected=1)
    assert told(folder, "result.json")["error"]["kind"] == "nan"
    assert '"ERROR"' in (folder / "alerts.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_script_runs_under_accelerate_launch_too(home: Path) -> None:
    folder = made(home, "sft", hyper=plan_for("sft", home)["hyper"] | {"max_steps": 1})
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "1",
        str(folder / "train.py"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert told(folder, "result.json")["status"] == "succeeded"


def test_the_script_is_one_file_with_the_plan_on_top(home: Path) -> None:
    folder = made(home, "sft")
    text = (folder / "train.py").read_text()
    modules = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    assert not any(name.startswith(("kit_", "tools", "agent")) for name in modules if name)
    assert text.index("LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 0.001") < text.index("import torch")
    assert f'MODEL, REVISION = "{tiny_model()}", None' in text
    assert "torch==" in (folder / "env.lock").read_text()
    assert told(folder, "plan.json")["method"] == "sft"


@pytest.mark.parametrize("method", METRICS)
def test_no_name_of_a_script_has_two_meanings(method: str, home: Path) -> None:
    with inside(Context(home=home)):
        text = render(read_plan(plan_for(method, home / "rows.jsonl")), "one")
    bound: list[str] = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.append(node.name)
        elif isinstance(node, ast.Assign):
            bound += [one.id for one in ast.walk(node.targets[0]) if isinstance(one, ast.Name)]
        elif isinstance(node, ast.ImportFrom | ast.Import):
            bound += {alias.asname or alias.name.split(".")[0] for alias in node.names} - set(bound)
    assert sorted(bound) == sorted(set(bound))


def test_an_argument_that_the_library_does_not_take_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.signatures import asked_apart, wrong_arguments

    asked: list[str] = []
    monkeypatch.setattr("tools.signatures.asked_apart", lambda names: asked.extend(names) or asked_apart(names))
    cache = home / "cache" / "signatures.json"
    text = program("sft").read_text().replace("max_length=MAX_LENGTH", "max_seq_length=MAX_LENGTH")
    assert any("SFTConfig takes no 'max_seq_length'" in line for line in wrong_arguments(text, cache))
    assert wrong_arguments(program("sft").read_text(), cache) == [] and asked == sorted(set(asked)) != []
    monkeypatch.setattr("tools.signatures.versions", lambda: {"trl": "another"})
    before = len(asked)
    wrong_arguments(text, cache)
    assert asked[before:] == asked[:before], "another version is asked anew"


def test_what_cannot_be_written_is_said(home: Path) -> None:
    plan = plan_for("sft", home, dataset={"mapping": "def to_rows(row:\n  pass"})
    with inside(Context(home=home)), pytest.raises(ToolError, match="not Python"):
        write_training_script(plan, "one")
    with inside(Context(home=home)), pytest.raises(ToolError, match="no name for a run"):
        write_training_script(plan_for("sft", home), "../up")


def test_a_reward_goes_into_the_plan_so_that_the_plan_alone_gives_the_script(home: Path) -> None:
    plan = plan_for("grpo", home / "rows.jsonl", dataset={"mapping": None})
    with inside(Context(home=home)):
        folder = Path(write_training_script(plan, "one", reward="math+format")["folder"])
        assert 'REWARDS = ["math", "format"]' in (folder / "train.py").read_text()
        assert "reward = None" in (folder / "train.py").read_text()
        code = "def reward(completions, **_):\n    return [1.0] * len(completions)"
        write_training_script(plan, "one", reward=code)
        text = (folder / "train.py").read_text()
        assert 'REWARDS = ["own"]' in text and code in text
        assert render(read_plan((folder / "plan.json").read_text()), "one") == text
        with pytest.raises(ToolError, match="is no reward"):
            write_training_script(plan, "one", reward="beauty")
        with pytest.raises(ToolError, match="takes no reward"):
            write_training_script(plan_for("sft", home), "one", reward="math")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_skill_s_script_runs_by_hand_as_the_skill_says(home: Path) -> None:
    """Copied with its pieces beside it, constants edited, no tool of ours."""
    place, scripts = home / "my-run", program("sft").parent
    place.mkdir()
    for source in (scripts / "sft.py", *scripts.glob("kit_*.py")):
        shutil.copy(source, place / ("train.py" if source.stem == "sft" else source.name))
    data = write_rows(home / "rows.jsonl", rows_for("sft"))
    script = place / "train.py"
    text = script.read_text().replace('"Qwen/Qwen3-0.6B"', repr(str(tiny_model())))
    script.write_text(
        text.replace('"trl-lib/Capybara"', repr(str(data))).replace("MAX_STEPS = 1.0, -1", "MAX_STEPS = 1.0, 2")
    )
    command = [sys.executable, str(scripts / "preflight.py"), str(place)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout
    trained(place, RUN_FOLDER=str(place))
    assert told(place, "result.json")["status"] == "succeeded"
