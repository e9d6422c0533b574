"""Datasets as they come: each gets the right verdict, its problems, and a mapping that runs and trains."""

from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import tiny_model
from tests.tools.awkward import CASES, Case
from tools.data.first import first_rows
from tools.data.source import open_source
from tools.datasets import inspect_dataset, prepare_dataset

pytestmark = pytest.mark.usefixtures("context")
FAST_TRAINING = ("chat_messages", "sharegpt")


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


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FAST_TRAINING else pytest.mark.slow) for n in CASES if CASES[n].trains],
)
def test_what_is_prepared_trains(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    folder = tmp_path / "given"
    folder.mkdir()
    made = prepare_dataset(str(case.build(folder)), case.method, out=str(tmp_path / "made"))
    assert train(case, made, tiny_model(), tmp_path / "run") == 2


def train(case: Case, made: dict[str, Any], model: Path, out: Path) -> int:
    """Two real steps on the prepared rows; how many were made."""
    import trl
    from datasets import load_dataset

    data = load_dataset(
        "parquet", data_files={"train": f"{made['folder']}/train.parquet"}, cache_dir=str(out / "cache")
    )
    usual = {"output_dir": str(out), "max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True, "bf16": False}
    usual |= {"report_to": "none", "disable_tqdm": True}
    if case.method == "classification":
        return train_classifier(data["train"], made["labels"], model, usual)
    config, trainer = {
        "sft": (trl.SFTConfig, trl.SFTTrainer),
        "dpo": (trl.DPOConfig, trl.DPOTrainer),
        "kto": (trl.KTOConfig, trl.KTOTrainer),
    }[case.method]
    options = usual | {"gradient_checkpointing": False}
    running = trainer(str(model), args=config(**options), train_dataset=data["train"])
    assert running.train().training_loss > 0
    return running.state.global_step


def train_classifier(data: Any, labels: list[str], model: Path, options: dict[str, Any]) -> int:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(model)
    ready = data.map(lambda row: tokenizer(row["text"], truncation=True, max_length=64))
    head = AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(labels))
    running = Trainer(head, TrainingArguments(**options), train_dataset=ready, processing_class=tokenizer)
    assert running.train().training_loss > 0
    return running.state.global_step
