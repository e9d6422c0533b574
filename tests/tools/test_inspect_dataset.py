"""The audit: places, duplicates, leaks, personal data, lengths, and one clear error for what cannot be judged."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import tiny_model
from tests.tools.awkward import chat, chats, jsonl, lines, sums
from tests.tools.fake_hub import FakeHub
from tools.context import Cancelled, Context, ToolError
from tools.data import duplicates, privacy, scan, workers
from tools.data.mapping import compiled
from tools.datasets import inspect_dataset, prepare_dataset

pytestmark = pytest.mark.usefixtures("context")
WORDS = [
    f"{a}{b}" for a in ("al", "ber", "cor", "dun", "el", "fir", "gon", "har") for b in ("ta", "mo", "ki", "ru", "se")
]


def story(seed: int, length: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def problem(found: dict[str, Any], id: str) -> dict[str, Any]:
    return next(one for one in found["problems"] if one["id"] == id)


def places(found: dict[str, Any], id: str) -> list[int]:
    return [one.get("line") or one["row"] for one in problem(found, id)["where"]]


def test_a_broken_line_is_told_by_its_number_across_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.data.source.PART_BYTES", 20_000)
    rows = [json.dumps(chat(f"Say {n}.", f"{n}")) for n in range(5000)]
    rows[3210] = rows[3210][:-5]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    found = inspect_dataset(str(tmp_path / "data.jsonl"))
    assert found["rows"] == 4999
    assert places(found, "broken") == [3211]
    assert problem(found, "broken")["cure"] == {"do": "drop_broken"}


def test_processes_and_one_process_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [chat(story(n % 900), story(n % 900 + 10_000)) for n in range(1000)]
    path = str(jsonl(tmp_path, rows))
    alone = inspect_dataset(path)
    monkeypatch.setattr("tools.data.source.PART_BYTES", 100_000)
    monkeypatch.setattr(workers, "SMALL", 0)
    apart = inspect_dataset(path)
    assert problem(alone, "duplicates")["count"] == 100
    for name in ("rows", "problems", "lengths", "schema", "languages", "fingerprint"):
        assert alone[name] == apart[name]


def test_repeated_rows_name_the_row_they_repeat(tmp_path: Path) -> None:
    found = inspect_dataset(str(jsonl(tmp_path, [*chats(), chats()[4]])))
    assert problem(found, "duplicates")["where"] == [
        {"file": "data.jsonl", "line": 61, "why": "like data.jsonl line 5"}
    ]


def test_a_row_with_one_other_word_is_a_near_duplicate_and_other_texts_are_not(tmp_path: Path) -> None:
    rows = [{"text": story(n)} for n in range(300)]
    rows.append({"text": rows[17]["text"].replace(" ", " odd ", 1)})
    found = inspect_dataset(str(jsonl(tmp_path, rows)))
    assert problem(found, "near_duplicates")["count"] == 1
    assert places(found, "near_duplicates") == [301]


def test_near_duplicates_are_found_in_most_cases_and_seldom_by_mistake() -> None:
    texts = [story(n, 80).encode() for n in range(400)]
    changed = [b" ".join(w if n % 40 else b"zzzz" for n, w in enumerate(text.split())) for text in texts]
    other = [b" ".join(w if n % 10 else b"zzzz" for n, w in enumerate(text.split())) for text in texts]
    signs = [duplicates.signatures(some)[1:] for some in (texts, changed, other)]

    def hits(one: int) -> int:
        same_band = (signs[0][1] == signs[one][1]).any(axis=1)
        return int((same_band & ((signs[0][0] == signs[one][0]).sum(axis=1) >= duplicates.AGREE)).sum())

    assert hits(1) > 360
    assert hits(2) < 10


def test_keys_in_many_files_give_the_same_repeats(tmp_path: Path) -> None:
    import numpy as np

    keys = np.random.default_rng(1).integers(0, 1 << 63, 5000, dtype=np.uint64) * np.uint64(2)
    keys[4000:] = keys[:1000]
    ids = np.arange(5000, dtype=np.uint64)
    found = []
    for kind, rows in (("few", 1), ("many", 1 << 24)):
        spill = duplicates.Spill(tmp_path, kind, rows)
        spill.write("a", keys[::2], ids[::2])
        spill.write("b", keys[1::2], ids[1::2])
        found.append(duplicates.exact_pairs(spill).tolist())
    assert found[0] == found[1] == [[n, n + 4000] for n in range(1000)]


def test_a_question_of_the_training_split_in_the_test_split_is_a_leak(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    jsonl(folder, chats(50), "train.jsonl")
    jsonl(folder, [chat(sums()[3][0], "Another answer."), chat("New?", "Yes.")], "validation.jsonl")
    found = inspect_dataset(str(folder))
    assert problem(found, "leakage")["count"] == 1
    assert problem(found, "leakage")["where"][0] | {"why": ""} == {"file": "validation.jsonl", "line": 1, "why": ""}
    assert found["splits"] == {"train": 50, "validation": 2}
    assert inspect_dataset(str(folder), split="validation")["rows"] == 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to ann.lee@post.org now", "e-mail"),
        ("Call +49 170 1234567 today", "phone"),
        ("Call (212) 555-0187.", "phone"),
        ("Card 4111 1111 1111 1111 please", "card"),
        ("from 8.8.8.8 on", "IP address"),
        ("to DE89 3704 0044 0532 0130 00 soon", "bank account"),
        (f"key hf_{'aB3' * 12}", "secret"),
        (f"export KEY=sk-{'a1B2' * 8}", "secret"),
    ],
)
def test_personal_data_and_secrets_are_seen_and_masked(text: str, kind: str) -> None:
    assert [found for found, _, _ in privacy.find(text)] == [kind]
    assert privacy.MASKS[kind] in privacy.masked(text)
    assert not list(privacy.find(privacy.masked(text)))


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4.5 and 10.0.0.1, 192.168.1.1",
        "4111 1111 1111 1112 is no card",
        "ask me@example.com",
        "pi is 3.14159265358979, sums 12345678901234567890123",
        "on 2024-01-02 at 10:30, order 123-45-6789",
        "sk-learn-is-a-library-for-learning",
    ],
)
def test_ordinary_text_is_no_personal_data(text: str) -> None:
    assert list(privacy.find(text)) == []


def test_personal_data_is_told_by_line_and_masked_in_the_examples(tmp_path: Path) -> None:
    rows = [chat("Who?", "ann.lee@post.org"), *chats()]
    rows[9] = chat("Key?", f"hf_{'aB3' * 12}")
    found = inspect_dataset(str(jsonl(tmp_path, rows)))
    assert places(found, "private") == [1]
    assert places(found, "secret") == [10]
    assert "ann.lee" not in json.dumps(found)


def test_lengths_are_counted_with_the_tokenizer_and_its_template(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = str(jsonl(tmp_path, chats()))
    found = inspect_dataset(path, tokenizer=str(tiny_model()), max_length=24)["lengths"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    real = [len(tokenizer.apply_chat_template(row["messages"])["input_ids"]) for row in chats()]
    assert not found["estimated"]
    assert abs(found["mean"] - sum(real) / 60) < 3
    assert abs(found["rows_over"] - sum(length > 24 for length in real)) <= 6


def test_without_a_tokenizer_lengths_are_estimated_and_that_is_said(tmp_path: Path) -> None:
    path = str(jsonl(tmp_path, [{"text": "word " * 800} for _ in range(60)]))
    for name in (None, "no-such/tokenizer"):
        found = inspect_dataset(path, tokenizer=name, max_length=900)
        assert found["lengths"]["estimated"]
        assert "estimated" in found["markdown"]
        assert found["lengths"]["rows_over"] == 60
        assert 800 < found["lengths"]["p50"] < 1200


def test_the_report_has_a_picture_of_the_lengths(tmp_path: Path) -> None:
    found = inspect_dataset(str(jsonl(tmp_path, chats())))
    assert found["type"] == "report"
    assert base64.b64decode(found["picture"]["png"]).startswith(b"\x89PNG")
    json.dumps(found)


def test_every_size_falls_into_the_bin_that_says_so() -> None:
    for size in [*range(3000), 10**6, 10**9]:
        number = scan.bin_of(size)
        assert scan.bin_start(number) <= size < scan.bin_start(number + 1)


def test_languages_and_labels_are_balanced_against_each_other(tmp_path: Path) -> None:
    german = "Das ist ein Haus und die Frau ist nicht in der Stadt"
    english = "This is a house and the woman is not in the town"
    rows = [{"text": f"{german if n % 4 else english} {n}", "label": "de" if n % 4 else "en"} for n in range(80)]
    found = inspect_dataset(str(jsonl(tmp_path, rows)))
    assert found["languages"] == {"German": 0.75, "English": 0.25}
    assert found["labels"] == {"de": 60, "en": 20}


def test_the_license_is_read_from_the_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert inspect_dataset(str(jsonl(tmp_path, chats())))["license"] == "mit"


def test_the_fingerprint_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    one, same = jsonl(tmp_path, chats(), "one.jsonl"), jsonl(tmp_path, chats(), "two.jsonl")
    other = jsonl(tmp_path, chats(59), "three.jsonl")
    prints = [inspect_dataset(str(path))["fingerprint"] for path in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.jsonl", None, "is not there"),
        ("empty.jsonl", b"", "is empty"),
        ("head.csv", b"a,b\n", "there is none"),
        ("what.dat", bytes(range(256)), "binary data"),
        ("set.zip", b"PK\x03\x04rest", "a zip archive"),
        ("wide.txt", "hällo".encode("utf-16"), "UTF-16"),
        ("torn.parquet", b"PAR1" + b"x" * 100, "cannot be read as parquet"),
        ("false.parquet", b"\x01\x02" * 50, "is no parquet file"),
        ("torn.arrow", b"ARROW1" + b"\0" * 200, "cannot be read as arrow"),
        ("torn.gz", b"\x1f\x8b\x08\x00abc", "cannot be read"),
        ("torn.jsonl.zst", b"\x28\xb5\x2f\xfdabc", "cannot be read"),
        ("all.jsonl", b'{"a\n{"b\n', "at 1, no JSON"),
        ("words.jsonl", b'"a"\n"b"\n', "not an object but text"),
        ("deep.jsonl", b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_judged_is_one_clear_error(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ToolError, match=said) as caught:
        inspect_dataset(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_compressed_data_that_ends_early_is_read_up_to_there(tmp_path: Path) -> None:
    import gzip

    packed = gzip.compress(lines([chat(story(n), story(n + 5000)) for n in range(2000)]).encode())
    (tmp_path / "data.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    found = inspect_dataset(str(tmp_path / "data.jsonl.gz"))
    assert "ends early" in json.dumps(problem(found, "broken"))


def test_a_wrong_name_is_noted_and_the_content_counts(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(chats()), tmp_path / "data.csv")
    found = inspect_dataset(str(tmp_path / "data.csv"))
    assert found["verdicts"]["sft"]["verdict"] == "ready"
    assert "parquet by its content" in found["notes"][0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_of_any_delimiter_is_read(delimiter: str, tmp_path: Path) -> None:
    rows = "".join(f"{q}{delimiter}{a}\n" for q, a in sums())
    (tmp_path / "data.csv").write_text(f"question{delimiter}answer\n{rows}", encoding="utf-8-sig")
    assert inspect_dataset(str(tmp_path / "data.csv"))["form"] == "prompt and completion"


def test_a_key_that_stands_twice_in_an_object_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "one thing", "text": "another thing"}\n' * 3)
    assert "'text'" in problem(inspect_dataset(str(path)), "repeated_column")["what"]


def test_hidden_folders_and_unknown_methods_are_refused(context: Context, tmp_path: Path) -> None:
    context.folder, context.home = tmp_path / "a", tmp_path / "b"
    (tmp_path / ".keys").mkdir()
    path = jsonl(tmp_path / ".keys", chats())
    with pytest.raises(ToolError, match="hidden"):
        inspect_dataset(str(path))
    with pytest.raises(ToolError, match="Unknown method 'sgd'"):
        inspect_dataset(str(jsonl(tmp_path, chats())), method="sgd")


def test_a_cancelled_call_stops(context: Context, tmp_path: Path) -> None:
    path = str(jsonl(tmp_path, chats()))
    context.cancel.set()
    with pytest.raises(Cancelled):
        inspect_dataset(path)


def test_column_names_cannot_break_out_of_the_mapping(tmp_path: Path) -> None:
    evil = "question']); __import__('os').abort(); (['"
    rows = [{evil: q, "answer": a} for q, a in sums()]
    found = inspect_dataset(str(jsonl(tmp_path, rows)), "sft")
    names: dict[str, Any] = {}
    exec(found["verdicts"]["sft"]["mapping"], names)
    assert names["to_rows"](rows[0])[0]["prompt"][0]["content"] == rows[0][evil]


def test_a_dataset_of_the_hub_is_downloaded_and_judged(hub: FakeHub) -> None:
    found = inspect_dataset("hf://datasets/acme/jokes/data/train.jsonl")
    assert found["rows"] > 0
    assert found["license"]


def test_a_linked_file_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("question,answer\n" + "".join(f"{q},{a}\n" for q, a in sums()))
    (tmp_path / "data.csv").symlink_to(tmp_path / "blob")
    assert inspect_dataset(str(tmp_path / "data.csv"))["form"] == "prompt and completion"


def test_a_label_of_too_many_values_is_told_to_be_retrieval_with_the_call_that_trains_it(tmp_path: Path) -> None:
    names = [f"part {n % 5 if n < 400 else n}" for n in range(10_500)]
    path = str(jsonl(tmp_path, [{"text": f"Where is {n}?", "label": name} for n, name in enumerate(names)]))
    verdict = inspect_dataset(path, "classification")["verdicts"]["classification"]
    assert verdict["verdict"] == "incompatible" and verdict["mapping"] is None
    assert "'label' has over 10,000 different values: finding one of so many is retrieval" in verdict["reason"]
    with pytest.raises(ToolError, match="is retrieval") as refused:
        prepare_dataset(path, "classification", out=str(tmp_path / "made"))
    call = str(refused.value).partition("Train embeddings: ")[2].rstrip(".")
    made = eval(call.removesuffix(")") + f", out={str(tmp_path / 'made')!r})")
    assert made["method"] == "embeddings" and "positive" in made["mapping"]


def test_a_number_as_label_is_a_class_when_it_has_few_values_and_else_regression(tmp_path: Path) -> None:
    for number, (scores, word) in enumerate(
        (
            ([float(n % 3) for n in range(60)], "needs mapping"),  # 0.0, 1.0 and 2.0, as tables write them
            ([n / 7 for n in range(60)], "incompatible"),
            ([n * 13 for n in range(60)], "incompatible"),
        )
    ):
        rows = [{"text": f"Review {n} of it", "rating": score} for n, score in enumerate(scores)]
        path = str(jsonl(tmp_path, rows, f"{number}.jsonl"))
        verdict = inspect_dataset(path, "classification")["verdicts"]["classification"]
        assert verdict["verdict"] == word, verdict["reason"]
        if word == "incompatible":
            assert "'rating' holds 60 different values" in verdict["reason"] and "regression" in verdict["reason"]
            assert "Add a column of a few classes" in verdict["reason"]
        else:
            assert compiled(verdict["mapping"])(rows[4])[0]["label"] == 1
