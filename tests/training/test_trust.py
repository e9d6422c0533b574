"""Which scripts may run outside of a jail: only ours, with nothing in them but constants and a mapping that is one."""

import ast
from pathlib import Path

import pytest

from tests.training.making import plan_for, rows_for, write_rows
from tools.context import Context, ToolError, inside
from tools.jobs.trust import distrust, foreign
from tools.plan import read_plan
from tools.training import AS_IT_IS, BEGIN, END, filled, literal, render, write_training_script

SHAREGPT = """import json

ROLES = {"human": "user", "gpt": "assistant"}


def chat(turns):
    return [{"role": ROLES.get(turn["from"].lower(), turn["from"]), "content": turn["value"]} for turn in turns]


def to_rows(row):
    if not row.get("conversations"):
        return []
    return [{"messages": chat(json.loads(row["conversations"])), "note": f"{len(row)}"}]
"""
HARMFUL = {
    "import os\ndef to_rows(row):\n    return [row]": "imports os",
    "def to_rows(row):\n    import subprocess\n    return [row]": "imports subprocess",
    "def to_rows(row):\n    return [open('/etc/passwd')]": "names open",
    "def to_rows(row):\n    return [eval('1')]": "names eval",
    "def to_rows(row):\n    return [().__class__.__bases__]": "uses .__bases__",
    "def to_rows(row, make=__import__):\n    return [make('os')]": "names __import__",
    "Path = None\ndef to_rows(row):\n    return [Path('/x')]": "defines Path",  # the script's own, when it is called
    "len = 1\ndef to_rows(row):\n    return [row]": "defines len",
    "def to_rows(row):\n    save(row, row)\n    return [row]": "names save",
    "def to_rows(row):\n    return [outcome.path.unlink()]": "uses .",
    "def to_rows(row):\n    global MODEL\n    MODEL = 'x'\n    return [row]": "holds a Global",
    "class Row(dict):\n    pass\ndef to_rows(row):\n    return [Row()]": "holds a ClassDef",
    "@print\ndef to_rows(row):\n    return [row]": "holds a FunctionDef",
    "from os import *\ndef to_rows(row):\n    return [row]": "holds a ImportFrom",
    "print('now')\ndef to_rows(row):\n    return [row]": "names print",
    "def to_rows(row):\n    return [(lambda: vars())()]": "names vars",
    "def to_rows(row):\n    return ['{0.__class__}'.format(row)]": "uses .format",
}


def rendered(tmp_path: Path, mapping: str | None) -> str:
    data = {"id": str(tmp_path / "x.jsonl"), "mapping": mapping}
    return render(read_plan(plan_for("sft", tmp_path / "x.jsonl", dataset=data)), "one")


@pytest.mark.parametrize(
    "mapping", [None, SHAREGPT, "def to_rows(row):\n    return [row]"], ids=["none", "chat", "same"]
)
def test_a_mapping_that_only_rearranges_is_trusted(tmp_path: Path, mapping: str | None) -> None:
    assert foreign(rendered(tmp_path, mapping)) is None


@pytest.mark.parametrize("mapping", HARMFUL, ids=HARMFUL.values())
def test_a_mapping_that_could_do_more_is_not(tmp_path: Path, mapping: str) -> None:
    text = rendered(tmp_path, SHAREGPT).replace(SHAREGPT.strip(), mapping)
    assert mapping in text
    assert HARMFUL[mapping] in (foreign(text) or "")


def test_a_plan_whose_values_are_code_is_not_trusted(tmp_path: Path) -> None:
    text = rendered(tmp_path, None)
    assert foreign(text.replace("SEED = 42", 'SEED = __import__("os").getpid()')) is not None


def test_a_reward_that_runs_what_the_model_writes_is_not_trusted() -> None:
    head, constants, tail = f"{BEGIN}\n", "REWARDS = {!r}  # what counts\n", f"{END}\n"
    assert foreign(head + constants.format(["math"]) + tail) is None
    assert "model under training" in (foreign(head + constants.format(["math", "code"]) + tail) or "")


def test_a_reward_of_the_plans_own_is_not_trusted(tmp_path: Path) -> None:
    text = render(read_plan(plan_for("grpo", tmp_path / "x.jsonl")), "one")
    assert "reward function" in (foreign(text) or "")


def test_a_script_is_trusted_until_it_is_edited(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "sums.jsonl", rows_for("sft"))
    with inside(Context(home=tmp_path)):
        folder = Path(write_training_script(plan_for("sft", data), "one")["folder"])
        assert distrust(folder) is None
        with (folder / "train.py").open("a") as file:
            file.write("# a harmless remark\n")
        assert "edited" in (distrust(folder) or "")
        (folder / "plan.json").write_text("{}")
        assert "renders no script" in (distrust(folder) or "")
        with pytest.raises(ToolError):
            read_plan("{}")


@pytest.mark.parametrize(
    "name", ['x"+__import__("os").getcwd()+"', "/home/o'brien/data.jsonl", 'a\\"b\n"""', "naïve/ü"]
)
def test_a_name_in_the_plan_stays_text_in_the_script(name: str) -> None:
    assert ast.literal_eval(literal({name: [name, 1, None, 2.5, True]})) == {name: [name, 1, None, 2.5, True]}
    filled_in = filled(f'MODEL, REVISION = "m", None  # comment\n{AS_IT_IS}', {"MODEL": name}, None)
    assert ast.literal_eval(ast.parse(filled_in).body[0].value.elts[0]) == name  # type: ignore[attr-defined]
