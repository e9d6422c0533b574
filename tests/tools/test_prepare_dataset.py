"""What is prepared: the cures do what they say, the bytes repeat, the folder appears whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import tiny_model
from tests.tools.awkward import chat, chats, jsonl, picture, sums
from tests.tools.test_inspect_dataset import story
from tools.context import Cancelled, Context, ToolError
from tools.datasets import inspect_dataset, prepare_dataset

pytestmark = pytest.mark.usefixtures("context")


def rows_of(made: dict[str, Any], name: str = "train") -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(f"{made['folder']}/{name}.parquet").to_pylist()


def prepared(path: Path, *cures: dict[str, Any], **more: Any) -> dict[str, Any]:
    return prepare_dataset(str(path), cures=list(cures), **more)


def test_the_usual_cures_make_a_clean_set_with_a_validation_split(tmp_path: Path) -> None:
    rows = [*chats(100), chats()[3], chat("Empty?", " "), "no row"]
    made = prepare_dataset(str(jsonl(tmp_path, rows)))
    assert made["rows_in"] == 103
    assert made["dropped"] == {"dedupe": 1, "drop_broken": 1, "drop_empty": 1}
    assert {name: one["rows"] for name, one in made["files"].items()} == {"train.parquet": 95, "validation.parquet": 5}
    again = inspect_dataset(made["folder"])
    assert [one["id"] for one in again["problems"]] == []
    assert again["verdicts"]["sft"]["verdict"] == "ready"


def test_the_same_input_and_seed_give_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [chat(story(n), story(n + 900)) for n in range(400)])
    cures = [{"do": "sample", "rows": 200}, {"do": "split", "validation": 0.2}]
    made = [prepared(path, *cures, out=name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    texts = [
        {one.name: one.read_bytes() for one in sorted(Path(m["folder"]).iterdir())}
        for m in made
    ]  # fmt: skip
    assert texts[0] == texts[1]
    assert texts[0]["train.parquet"] != texts[2]["train.parquet"]
    assert made[0]["files"]["train.parquet"]["rows"] == 160


def test_the_manifest_tells_how_to_make_it_again(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"question": q, "answer": a} for q, a in sums()])
    made = prepared(path, {"do": "split", "validation": 0.1}, {"do": "dedupe"}, seed=5)
    told = json.loads(Path(made["manifest"]).read_text())
    assert [one["do"] for one in told["cures"]] == ["map", "repair", "dedupe", "split"]
    assert told["seed"] == 5 and told["rows_in"] == 60
    assert told["fingerprint"] == inspect_dataset(str(path))["fingerprint"]
    names: dict[str, Any] = {}
    exec(told["mapping"], names)
    mapped = [names["to_rows"](json.loads(line))[0] for line in path.read_text().splitlines()]
    assert sorted(map(str, mapped)) == sorted(map(str, rows_of(made) + rows_of(made, "validation")))


def test_without_the_cure_a_broken_row_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(chats()[0]) + '\n{"messages": [\n')
    with pytest.raises(ToolError, match="drop_broken"):
        prepared(path)
    assert not (tmp_path / "work" / "data-sft").exists()


def test_columns_can_be_named_where_the_names_say_nothing(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"f1": q, "f2": a, "f3": "No."} for q, a in sums()])
    assert inspect_dataset(str(path))["verdicts"]["dpo"]["verdict"] == "incompatible"
    made = prepare_dataset(str(path), "dpo", mapping={"prompt": "f1", "chosen": "f2", "rejected": "f3"})
    row = rows_of(made)[0]
    assert row["prompt"][0]["role"] == "user" and row["rejected"][0]["content"] == "No."
    with pytest.raises(ToolError, match="no column 'f9'"):
        prepare_dataset(str(path), "dpo", mapping={"prompt": "f9"})


def test_near_duplicates_go_and_their_first_stays(tmp_path: Path) -> None:
    rows = [{"text": story(n)} for n in range(60)]
    rows.append({"text": rows[7]["text"].replace(" ", " odd ", 1)})
    made = prepared(jsonl(tmp_path, rows), {"do": "dedupe_near"})
    assert made["dropped"] == {"dedupe_near": 1}
    assert rows[7] in rows_of(made)


def test_personal_data_is_masked_or_its_rows_dropped(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [chat("Who?", "ann.lee@post.org, +49 170 1234567"), *chats()])
    made = prepared(path, {"do": "mask"})
    assert rows_of(made)[0]["messages"][1]["content"] == "[email], [phone]"
    assert prepared(path, {"do": "drop_private"}, out="b")["dropped"] == {"drop_private": 1}


def test_long_rows_are_dropped_by_the_tokens_of_the_tokenizer(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [*chats(), chat("Tell.", "word " * 500)])
    cure = {"do": "drop_long", "max_tokens": 200, "tokenizer": str(tiny_model())}
    assert prepared(path, cure)["dropped"] == {"drop_long": 1}


def test_rows_of_the_test_split_leave_the_training_split(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    jsonl(folder, chats(60), "train.jsonl")
    jsonl(folder, chats(5), "test.jsonl")
    made = prepared(folder, {"do": "drop_leaks"}, {"do": "split"})
    assert {name: one["rows"] for name, one in made["files"].items()} == {"train.parquet": 55, "test.parquet": 5}


def test_rows_that_ask_the_same_stay_on_one_side(tmp_path: Path) -> None:
    rows = [chat(f"Question {n % 20}?", f"Answer {n}.") for n in range(200)]
    made = prepared(jsonl(tmp_path, rows), {"do": "split", "validation": 0.17})
    asked = [{row["messages"][0]["content"] for row in rows_of(made, name)} for name in ("train", "validation")]
    assert asked[1] and not asked[0] & asked[1]


def test_labels_keep_their_names_and_are_balanced(tmp_path: Path) -> None:
    rows = [{"text": story(n), "label": "rare" if n == 599 or n == 300 else "usual"} for n in range(600)]
    made = prepared(jsonl(tmp_path, rows), {"do": "balance", "most": 5})
    assert made["labels"] == ["rare", "usual"]
    labels = [row["label"] for row in rows_of(made)]
    assert (labels.count("rare"), labels.count("usual")) == (2, 10)


def test_half_characters_are_mended(tmp_path: Path) -> None:
    made = prepared(jsonl(tmp_path, [chat("Say.", "half \ud83d here"), *chats()]))
    assert rows_of(made)[0]["messages"][1]["content"] == "half � here"
    assert made["changed"] == {"repair": 1}


def test_a_type_that_comes_late_is_a_broken_row(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"Say {n}.", "size": n} for n in range(12_000)]
    rows[11_500]["size"] = {"not": "a number"}
    made = prepare_dataset(str(jsonl(tmp_path, rows)), "grpo")
    assert made["dropped"] == {"drop_broken": 1}


def test_tool_calls_keep_their_arguments_as_text(tmp_path: Path) -> None:
    def row(n: int) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "add", "arguments": {f"k{n}": n}}}
        said = [{"role": "user", "content": f"Add {n}"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
        return {"messages": said}

    made = prepared(jsonl(tmp_path, [row(n) for n in range(60)]))
    call = rows_of(made)[4]["messages"][1]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"k4": 4}


def test_images_stay_images(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import load_dataset

    rows = [{"image": {"bytes": picture(n), "path": None}, "label": ("cat", "dog")[n % 2]} for n in range(60)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    made = prepare_dataset(str(tmp_path / "data.parquet"))
    files = {"train": f"{made['folder']}/train.parquet"}
    data = load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    assert data[0]["image"].size == (8, 8)
    assert {row["label"] for row in rows_of(made)} == {"cat", "dog"}


def test_images_named_by_paths_are_taken_in_from_the_data_s_own_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "pictures").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"not yours")
    for n in range(3):
        (folder / "pictures" / f"{n}.png").write_bytes(picture(n))
    names = [*(f"pictures/{n}.png" for n in range(4)), "../secret.png"]
    rows = [{"image": name, "question": f"What is {n}?", "answer": "A square."} for n, name in enumerate(names)]
    made = prepared(jsonl(folder, rows), {"do": "drop_broken"})
    assert made["method"] == "vision_sft"
    assert [row["images"][0]["bytes"] for row in rows_of(made)] == [picture(n) for n in range(3)]
    assert made["dropped"] == {"drop_broken": 2}


@pytest.mark.parametrize(
    ("cures", "said"),
    [
        ([{"do": "magic"}], "Unknown cure"),
        ([{"do": "sample", "size": 3}], "has no 'size'"),
        ([{"do": "split", "validation": 2}], "must be a number"),
        ([{"do": "drop_long", "max_tokens": 0}], "must be a number"),
        ([{"do": "drop_long", "max_tokens": 1}], "No row is left"),
    ],
)
def test_a_wrong_cure_is_told(cures: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=said):
        prepared(jsonl(tmp_path, chats()), *cures)


def test_only_a_folder_of_its_own_is_replaced(context: Context, tmp_path: Path) -> None:
    path = jsonl(tmp_path, chats())
    first = prepared(path, out="mine")
    assert prepared(path, {"do": "sample", "rows": 10}, out="mine")["files"]["train.parquet"]["rows"] == 10
    other = context.folder / "other"
    other.mkdir()
    (other / "letter.txt").write_text("keep me")
    with pytest.raises(ToolError, match="not written by"):
        prepared(path, out="other")
    with pytest.raises(ToolError, match="outside"):
        prepared(path, out="/usr/share/prepared")
    assert first["folder"] == str(context.folder / "mine")


def test_a_cancelled_preparation_leaves_nothing(context: Context, tmp_path: Path) -> None:
    path = jsonl(tmp_path, chats())
    context.cancel.set()
    with pytest.raises(Cancelled):
        prepared(path)
    assert list(context.folder.iterdir()) == []
