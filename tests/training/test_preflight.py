"""Faults planted into scripts, plans, data and models: the preflight names each before the run; good ones pass."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import tiny_model
from tests.training.making import REWARD, NoWall, as_if_good, plan_for, rows_for, write_rows, written
from tools.context import Context, ToolError, inside
from tools.preflight import passed, preflight

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Case:
    """A run that is about to be written; a fault changes one thing of it."""

    def __init__(self, home: Path, method: str):
        self.home, self.method = home, method
        self.data = write_rows(home / "data" / "rows.jsonl", rows_for(method))
        self.plan = plan_for(method, self.data)
        self.edits: list[tuple[str, str]] = []

    def mapping(self, code: str) -> None:
        self.plan["dataset"]["mapping"] = code

    def hyper(self, **values: Any) -> None:
        self.plan["hyper"] |= values

    def own_model(self) -> Path:
        copy = self.home / "model"
        shutil.copytree(tiny_model(), copy)
        self.plan["model"]["id"] = str(copy)
        return copy

    def edit(self, pattern: str, text: str) -> None:
        self.edits.append((pattern, text))

    def rehearsed(self) -> dict[str, Any]:
        folder = written(self.home, self.plan)
        script = folder / "train.py"
        for pattern, text in self.edits:
            changed, times = re.subn(pattern, text, script.read_text())
            assert times, pattern
            script.write_text(changed)
        with inside(Context(home=self.home, jail=NoWall())):
            preflight("one")
            told = json.loads((folder / "preflight.json").read_text())
            assert passed("one") == told["passed"]
        return told


def unknown_argument(case: Case) -> None:
    case.edit("max_length=MAX_LENGTH,", "max_seq_length=MAX_LENGTH,")


def column_that_is_not_there(case: Case) -> None:
    case.mapping('def to_rows(row):\n    return [{"messages": row["conversation"]}]')


def columns_of_another_method(case: Case) -> None:
    case.mapping('def to_rows(row):\n    return [{"question": "a", "answer": "b"}]')


def nothing_left(case: Case) -> None:
    case.mapping("def to_rows(row):\n    return [row] if len(row['messages']) > 9 else []")


def template_without_assistant_mask(case: Case) -> None:
    (case.own_model() / "chat_template.jinja").write_text(CHATML)


def roles_that_are_unknown(case: Case) -> None:
    case.mapping(
        "def to_rows(row):\n"
        "    roles = {'user': 'human', 'assistant': 'gpt'}\n"
        "    return [{'messages': [m | {'role': roles[m['role']]} for m in row['messages']]}]"
    )


def answers_beyond_the_length(case: Case) -> None:
    case.hyper(max_length=8, packing=False)


def loss_that_bursts(case: Case) -> None:
    case.edit("SCHEDULER = 0.001", "SCHEDULER = 1e30")
    case.edit("MAX_GRAD_NORM, OPTIM = 0.0, 1.0", "MAX_GRAD_NORM, OPTIM = 0.0, 1e9")


def reward_that_raises(case: Case) -> None:
    case.mapping(f"def to_rows(row):\n    return [row]{REWARD.replace('[sum(', '[solution and sum(')}")


def reward_of_none(case: Case) -> None:
    case.mapping(
        "def to_rows(row):\n    return [row]\n\n\ndef reward(completions, **_):\n    return [None] * len(completions)"
    )


def reward_of_another_length(case: Case) -> None:
    case.mapping("def to_rows(row):\n    return [row]\n\n\ndef reward(completions, **_):\n    return [1.0]")


def lora_on_nothing(case: Case) -> None:
    case.plan["adapter"]["target_modules"] = ["query_key_value"]


def too_little_disk(case: Case) -> None:
    case.plan["model"]["parameters"] = 10**13


def package_that_is_missing(case: Case) -> None:
    case.edit("import json\n", "import json\nimport a_package_nobody_has\n")


def weights_cut_short(case: Case) -> None:
    weights = case.own_model() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000_000])


def no_such_model(case: Case) -> None:
    case.plan["model"]["id"] = str(case.home / "nowhere")


def rows_longer_than_the_model(case: Case) -> None:
    long = [
        {"messages": [one["messages"][0] | {"content": "one two " * 3000}, one["messages"][1]]}
        for one in rows_for("sft")
    ]
    write_rows(case.data, long)
    case.hyper(max_length=16_000, packing=False)


def batch_not_divisible(case: Case) -> None:
    case.edit("BATCH, ACCUMULATION = 4, 1", "BATCH, ACCUMULATION = 3, 1")


def broken_line(case: Case) -> None:
    lines = case.data.read_text().splitlines()
    case.data.write_text("\n".join([*lines[:5], '{"messages": [', *lines[5:]]))


def no_such_data(case: Case) -> None:
    case.plan["dataset"]["id"] = str(case.home / "nowhere.jsonl")


def not_python(case: Case) -> None:
    case.edit("def main", "def main main")


FAULTS: list[tuple[Callable[[Case], None], str, str]] = [
    (not_python, "sft", "syntax"),
    (column_that_is_not_there, "sft", "columns"),
    (columns_of_another_method, "sft", "columns"),
    (unknown_argument, "sft", "arguments"),
    (nothing_left, "sft", "empty"),
    (template_without_assistant_mask, "sft", "template"),
    (roles_that_are_unknown, "sft", "labels"),
    (answers_beyond_the_length, "sft", "l"),  # labels or length: nothing is left, or too little
    (loss_that_bursts, "sft", "nan"),
    (reward_that_raises, "grpo", "reward"),
    (reward_of_none, "grpo", "reward"),
    (reward_of_another_length, "rloo", "reward"),
    (lora_on_nothing, "dpo", "lora"),
    (too_little_disk, "sft", "disk"),
    (package_that_is_missing, "sft", "package"),
    (weights_cut_short, "sft", "model"),
    (no_such_model, "sft", "model"),
    (rows_longer_than_the_model, "sft", "length"),
    (batch_not_divisible, "grpo", "batch"),
    (broken_line, "sft", "rows"),
    (no_such_data, "sft", "rows"),
]
FAST = (not_python, column_that_is_not_there)


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("fault", "method", "check"),
    [
        pytest.param(*one, id=one[0].__name__, marks=() if one[0] in FAST else (pytest.mark.slow,))
        for one in FAULTS
    ],
)  # fmt: skip
def test_a_planted_fault_is_named_with_its_cure(
    fault: Callable[[Case], None], method: str, check: str, home: Path
) -> None:
    case = Case(home, method)
    fault(case)
    told = case.rehearsed()
    failed = [one for one in told["findings"] if not one["ok"]]
    assert failed and not told["passed"]
    assert failed[0]["check"].startswith(check) and failed[0]["mend"], failed


def as_it_is(case: Case) -> None:
    pass


def all_weights(case: Case) -> None:
    case.plan["adapter"] = {"kind": "none"}


def prompts_and_completions(case: Case) -> None:
    case.mapping(
        "def to_rows(row):\n    said = [m['content'] for m in row['messages']]\n"
        "    return [{'prompt': said[0], 'completion': said[1]}]"
    )


def only_text(case: Case) -> None:
    case.mapping("def to_rows(row):\n    return [{'text': row['messages'][1]['content']}]")
    case.hyper(assistant_only_loss=False)


def some_rows_cut(case: Case) -> None:
    rows = rows_for("sft")
    rows[3]["messages"][1]["content"] = "and so on " * 400
    write_rows(case.data, rows)


def nothing_held_out(case: Case) -> None:
    write_rows(case.data, rows_for("sft")[:8])


def own_template(case: Case) -> None:
    (case.own_model() / "chat_template.jinja").write_text(CHATML)
    case.hyper(assistant_only_loss=False)


OTHERS = ("dpo", "grpo", "kto", "reward", "cpt", "rloo", "distillation", "embeddings")
GOOD = [(as_it_is, method) for method in ("sft", *OTHERS, "sequence-classification", "token-classification")]
GOOD += [(one, "sft") for one in (all_weights, prompts_and_completions, only_text, some_rows_cut, nothing_held_out)]
GOOD += [(own_template, "sft"), (all_weights, "dpo")]


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize(("change", "method"), [pytest.param(*one, id=f"{one[1]}-{one[0].__name__}") for one in GOOD])
def test_a_good_script_passes(change: Callable[[Case], None], method: str, home: Path) -> None:
    case = Case(home, method)
    change(case)
    told = case.rehearsed()
    assert told["passed"], [one for one in told["findings"] if not one["ok"]]
    assert told["seconds"] < 90 and told["measured"]["resumed"] and told["measured"]["reloads"]


def test_a_verdict_is_only_for_the_script_as_it_was(home: Path) -> None:
    case = Case(home, "sft")
    folder = written(home, case.plan)
    with inside(Context(home=home)):
        assert not passed("one")
        as_if_good(folder)
        assert passed("one")
        (folder / "train.py").write_text((folder / "train.py").read_text() + "\n")
        assert not passed("one")
        with pytest.raises(ToolError, match="edited"):
            preflight("one")
