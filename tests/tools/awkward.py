"""Datasets of awkward shape, each with what the audit must say about it. Every builder writes real files."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    build: Callable[[Path], Path]
    method: str
    verdict: str
    rows: int = 60
    form: str = ""
    problems: dict[str, int] = field(default_factory=dict)  # id: count
    columns: tuple[str, ...] = ()  # of the mapped rows


CASES: dict[str, Case] = {}


def case(method: str, verdict: str, **more: Any) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def keep(build: Callable[[Path], Path]) -> Callable[[Path], Path]:
        CASES[build.__name__] = Case(build, method, verdict, **more)
        return build

    return keep


def sums(count: int = 60) -> list[tuple[str, str]]:
    return [(f"What is {n} plus {n * 7 % 40}?", f"The answer is {n + n * 7 % 40}.") for n in range(count)]


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def chats(count: int = 60) -> Rows:
    return [chat(*one) for one in sums(count)]


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def jsonl(folder: Path, rows: list[Any], name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text(lines(rows))
    return path


@case("sft", "ready", form="chat", columns=("messages",))
def chat_messages(folder: Path) -> Path:
    return jsonl(folder, chats())


@case("sft", "needs mapping", form="ShareGPT", columns=("messages",))
def sharegpt(folder: Path) -> Path:
    turn = ({"from": "human"}, {"from": "gpt"})
    rows = [{"conversations": [t | {"value": v} for t, v in zip(turn, one, strict=True)]} for one in sums()]
    return jsonl(folder, rows)


@case("sft", "needs mapping", form="Alpaca", columns=("prompt", "completion"))
def alpaca(folder: Path) -> Path:
    rows = [{"instruction": q, "input": "" if n % 2 else "Think.", "output": a} for n, (q, a) in enumerate(sums())]
    return jsonl(folder, rows)


@case("sft", "needs mapping", form="turns", columns=("messages",))
def turns_with_other_keys(folder: Path) -> Path:
    rows = [{"dialogue": [{"speaker": "User", "text": q}, {"speaker": "Bot", "text": a}]} for q, a in sums()]
    return jsonl(folder, rows)


@case("sft", "ready", form="chat", columns=("messages",))
def chat_beside_other_columns(folder: Path) -> Path:
    return jsonl(folder, [row | {"id": n, "source": f"book {n}"} for n, row in enumerate(chats())])


@case("sft", "needs mapping", form="chat", columns=("messages",))
def chat_under_an_unusual_name(folder: Path) -> Path:
    return jsonl(folder, [{"the_talk": row["messages"]} for row in chats()])


@case("vision_sft", "needs mapping", form="vision chat", columns=("images", "messages"))
def turns_with_image_paths(folder: Path) -> Path:
    turn = ({"from": "human"}, {"from": "gpt"})
    rows = [{"conversations": [t | {"value": v} for t, v in zip(turn, one, strict=True)]} for one in sums()]
    (folder / "pictures").mkdir()
    for n in range(60):
        (folder / "pictures" / f"{n}.png").write_bytes(picture(n))
    return jsonl(folder, [row | {"image": f"pictures/{n}.png"} for n, row in enumerate(rows)])


@case("grpo", "needs mapping", form="prompt and completion", columns=("prompt", "answer"))
def worked_solution_beside_the_answer(folder: Path) -> Path:
    return jsonl(
        folder, [{"problem": q, "solution": f"Count. {a}", "answer": str(n)} for n, (q, a) in enumerate(sums())]
    )


@case("kto", "ready", form="rated completion", columns=("prompt", "completion", "label"))
def rated_chats(folder: Path) -> Path:
    rows = [(chat(q, a)["messages"], n % 3 == 0) for n, (q, a) in enumerate(sums())]
    return jsonl(folder, [{"prompt": said[:1], "completion": said[1:], "label": good} for said, good in rows])


@case("sft", "needs mapping", form="prompt and completion", columns=("prompt", "completion"))
def question_and_answer(folder: Path) -> Path:
    return jsonl(folder, [{"id": n, "question": q, "answer": a} for n, (q, a) in enumerate(sums())])


@case("sft", "ready", form="prompt and completion", columns=("prompt", "completion"))
def plain_prompt_and_completion(folder: Path) -> Path:
    return jsonl(folder, [{"prompt": q, "completion": a} for q, a in sums()])


@case("sft", "needs mapping", form="chat", columns=("messages",))
def messages_beside_a_prompt(folder: Path) -> Path:
    return jsonl(folder, [chat(q, a) | {"prompt": q} for q, a in sums()])


@case("sft", "needs mapping", form="chat", columns=("messages",))
def messages_as_json_text(folder: Path) -> Path:
    return jsonl(folder, [{"messages": json.dumps(row["messages"])} for row in chats()])


@case("sft", "needs mapping", form="chat with tool calls", columns=("messages", "tools"))
def tool_calls(folder: Path) -> Path:
    def row(n: int) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "add", "arguments": {"a": n} if n % 2 else {"b": n}}}
        said = [{"role": "user", "content": f"Add {n}."}, {"role": "assistant", "content": None, "tool_calls": [call]}]
        said += [{"role": "tool", "name": "add", "content": str(n)}, {"role": "assistant", "content": f"It is {n}."}]
        tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}}
        return {"messages": said, "tools": [tool]}

    return jsonl(folder, [row(n) for n in range(60)])


@case("dpo", "ready", form="preference, implicit prompt", columns=("chosen", "rejected"))
def preference_with_implicit_prompt(folder: Path) -> Path:
    return jsonl(
        folder, [{"chosen": chat(q, a)["messages"], "rejected": chat(q, "No.")["messages"]} for q, a in sums()]
    )


@case("dpo", "needs mapping", form="preference", columns=("prompt", "chosen", "rejected"))
def preference_with_wrong_names(folder: Path) -> Path:
    return jsonl(folder, [{"question": q, "good_response": a, "bad_response": "No."} for q, a in sums()])


@case("reward", "needs mapping", form="preference, implicit prompt", columns=("chosen", "rejected"))
def prompt_text_beside_whole_conversations(folder: Path) -> Path:
    rows = [{"prompt": q, "chosen": chat(q, a)["messages"], "rejected": chat(q, "No.")["messages"]} for q, a in sums()]
    return jsonl(folder, [{"winner": row["chosen"], "loser": row["rejected"], "prompt": row["prompt"]} for row in rows])


@case("kto", "ready", form="rated completion", columns=("prompt", "completion", "label"))
def rated_completions(folder: Path) -> Path:
    return jsonl(folder, [{"prompt": q, "completion": a, "label": n % 2 == 0} for n, (q, a) in enumerate(sums())])


@case("kto", "needs mapping", form="rated completion", columns=("prompt", "completion", "label"))
def thumbs_as_numbers(folder: Path) -> Path:
    return jsonl(folder, [{"query": q, "response": a, "thumbs_up": n % 2} for n, (q, a) in enumerate(sums())])


@case("grpo", "ready", form="prompt only", columns=("prompt", "tests"))
def prompts_with_tests(folder: Path) -> Path:
    return jsonl(folder, [{"prompt": q, "tests": ["assert True"]} for q, _ in sums()])


@case("grpo", "incompatible", form="rated steps")
def rated_steps(folder: Path) -> Path:
    return jsonl(folder, [{"prompt": q, "completions": ["a", "b"], "labels": [True, False]} for q, _ in sums()])


@case("classification", "needs mapping", form="text and label", columns=("text", "label"))
def csv_with_quotes_and_newlines(folder: Path) -> Path:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["review", "sentiment"])
    writer.writerows([f'He said "{n}",\nthen left; {q}', ("good", "bad")[n % 2]] for n, (q, _) in enumerate(sums()))
    (folder / "data.csv").write_text(out.getvalue(), newline="")
    return folder / "data.csv"


@case("classification", "ready", form="text and label", columns=("text", "label"), problems={"repeated_column": 60})
def duplicate_columns(folder: Path) -> Path:
    rows = "".join(f"{q},{n % 3},{a}\n" for n, (q, a) in enumerate(sums()))
    (folder / "data.csv").write_text(f"text,label,text\n{rows}")
    return folder / "data.csv"


@case("classification", "ready", rows=59, columns=("text", "label"), problems={"broken": 1})
def tsv_with_a_short_line(folder: Path) -> Path:
    rows = [f"{q}\t{n % 2}" for n, (q, _) in enumerate(sums())]
    rows[7] = "no label here"
    (folder / "data.tsv").write_text("\r\n".join(["text\tlabel", *rows]) + "\r\n")
    return folder / "data.tsv"


@case("classification", "ready", columns=("text", "label"), problems={"imbalance": 58})
def uneven_labels(folder: Path) -> Path:
    return jsonl(folder, [{"text": q, "label": int(n < 2)} for n, (q, _) in enumerate(sums())])


@case("token_classification", "needs mapping", form="tokens and tags", columns=("tokens", "tags"))
def tags_by_name(folder: Path) -> Path:
    return jsonl(folder, [{"tokens": q.split(), "ner_tags": ["O"] * (len(q.split()) - 1) + ["B"]} for q, _ in sums()])


@case("embeddings", "needs mapping", form="anchor and positive", columns=("anchor", "positive", "negative"))
def lists_of_passages(folder: Path) -> Path:
    return jsonl(folder, [{"query": q, "pos": [a, a + "!"], "neg": ["No."]} for q, a in sums()])


@case("embeddings", "needs mapping", form="sentence pairs", columns=("sentence1", "sentence2", "score"))
def pairs_of_duplicates(folder: Path) -> Path:
    rows = [{"id": n, "question1": q, "question2": a, "is_duplicate": n % 2} for n, (q, a) in enumerate(sums())]
    return jsonl(folder, rows)


@case("embeddings", "ready", form="anchor and positive", columns=("anchor", "positive", "negative"))
def triplets(folder: Path) -> Path:
    return jsonl(folder, [{"anchor": q, "positive": a, "negative": f"No, {a}"} for q, a in sums()])


@case("embeddings", "ready", form="sentence pairs", columns=("sentence1", "sentence2", "score"))
def scored_pairs(folder: Path) -> Path:
    rows = [{"sentence1": q, "sentence2": a, "score": 5 - n / 12} for n, (q, a) in enumerate(sums())]
    return jsonl(folder, rows)


@case("cpt", "ready", form="text", columns=("text",))
def text_with_bom_and_crlf(folder: Path) -> Path:
    text = "\r\n\r\n".join(f"{q} {a}" for q, a in sums())
    (folder / "data.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return folder / "data.txt"


@case("sft", "ready", rows=99_999, columns=("messages",), problems={"broken": 1})
def one_broken_line_in_100_000(folder: Path) -> Path:
    rows = [json.dumps(chat(f"Say {n}.", f"{n}")) for n in range(100_000)]
    rows[77_776] = rows[77_776][:-9]
    (folder / "data.jsonl").write_text("\n".join(rows))
    return folder / "data.jsonl"


@case("sft", "ready", rows=3, columns=("messages",), problems={"few": 3})
def three_rows(folder: Path) -> Path:
    return jsonl(folder, chats(3))


@case("sft", "ready", rows=20, columns=("messages",), problems={"long": 2})
def huge_rows(folder: Path) -> Path:
    return jsonl(folder, [chat(q, "x" * 10_000_000 if n in (4, 9) else a) for n, (q, a) in enumerate(sums(20))])


@case("sft", "ready", columns=("messages",), problems={"half characters": 1})
def half_surrogates(folder: Path) -> Path:
    rows = chats()
    rows[5]["messages"][1]["content"] = "half \ud83d here"
    return jsonl(folder, rows)


@case("sft", "ready", columns=("messages",), problems={"empty": 3, "broken": 2})
def nested_nulls_and_mixed_types(folder: Path) -> Path:
    rows = chats()
    rows[3]["messages"] = None
    rows[4]["messages"][1]["content"] = None
    rows[5]["messages"] = []
    rows[6]["messages"][0]["content"] = 12
    rows[7]["messages"][0]["role"] = "wizard"
    return jsonl(folder, rows)


@case("sft", "ready", columns=("messages",))
def unicode_everywhere(folder: Path) -> Path:
    signs = ("日本語", "עברית", "👩‍👩‍👧", "e\u0301", "\u2028", "\x85")
    text = "".join(
        json.dumps(chat(f"{n} {signs[n % 6]}", signs[n % 5] + "!"), ensure_ascii=False) + "\n" for n in range(60)
    )
    (folder / "Daten ü.jsonl").write_text(text)
    return folder / "Daten ü.jsonl"


@case("sft", "ready", columns=("messages",), problems={"broken": 1})
def bytes_that_are_no_utf8(folder: Path) -> Path:
    text = [json.dumps(row).encode() for row in chats(61)]
    text[20] = text[20].replace(b"answer", b"\xe4nswer")
    (folder / "data.jsonl").write_bytes(b"\n".join(text))
    return folder / "data.jsonl"


@case("sft", "ready", columns=("messages",))
def json_array_in_a_jsonl_name(folder: Path) -> Path:
    (folder / "data.jsonl").write_text(json.dumps(chats(), indent=1))
    return folder / "data.jsonl"


@case("sft", "ready", columns=("messages",))
def rows_below_a_data_key(folder: Path) -> Path:
    (folder / "data.json").write_text(json.dumps({"version": 1, "data": chats()}, indent=1))
    return folder / "data.json"


@case("sft", "ready", columns=("messages",))
def gzip_file(folder: Path) -> Path:
    (folder / "data.jsonl.gz").write_bytes(gzip.compress(lines(chats()).encode()))
    return folder / "data.jsonl.gz"


@case("sft", "ready", columns=("messages",))
def zstd_file(folder: Path) -> Path:
    import pyarrow as pa

    with pa.CompressedOutputStream(str(folder / "data.jsonl.zst"), "zstd") as out:
        out.write(lines(chats()).encode())
    return folder / "data.jsonl.zst"


@case("sft", "ready", columns=("messages",))
def shards_of_several_kinds(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = chats()
    (folder / "data").mkdir()
    jsonl(folder / "data", rows[:15], "train-0.jsonl")
    (folder / "data" / "train-1.jsonl.xz").write_bytes(lzma.compress(lines(rows[15:30]).encode()))
    (folder / "data" / "train-2.jsonl.bz2").write_bytes(bz2.compress(lines(rows[30:45]).encode()))
    pq.write_table(pa.Table.from_pylist(rows[45:]), folder / "data" / "train-3.parquet")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Sums\n")
    return folder


@case("sft", "ready", rows=80, columns=("messages",), problems={"leakage": 5})
def leaking_splits(folder: Path) -> Path:
    (folder / "data").mkdir()
    jsonl(folder / "data", chats(60), "train.jsonl")
    jsonl(folder / "data", [*chats(5), *[chat(f"Only {n}?", "Yes.") for n in range(15)]], "test.jsonl")
    return folder


def picture(n: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8), (n * 4 % 256, 10, 200 - n)).save(out, "PNG")
    return out.getvalue()


@case("image_classification", "ready", form="image and label", columns=("image", "label"))
def images_in_folders(folder: Path) -> Path:
    for n in range(60):
        path = folder / ("cat", "dog")[n % 2] / f"{n:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(n))
    return folder


@case("vision_sft", "needs mapping", form="vision question and answer", columns=("images", "prompt", "completion"))
def arrow_with_images(folder: Path) -> Path:
    import pyarrow as pa

    rows = [
        {"image": {"bytes": picture(n), "path": None}, "question": q, "answer": a} for n, (q, a) in enumerate(sums())
    ]
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(folder / "data.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return folder / "data.arrow"


@case("sft", "incompatible", form="")
def numbers_only(folder: Path) -> Path:
    return jsonl(folder, [{"a": n, "b": n / 2} for n in range(60)])


@case("object_detection", "ready", form="image and boxes", columns=("image", "objects"))
def boxes_beside_images(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"image": {"bytes": picture(n), "path": None}} for n in range(60)]
    for n, row in enumerate(rows):
        row["objects"] = {"bbox": [[n % 4, 1, 3, 3]], "category": [n % 2]}
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    return folder / "data.parquet"


@case("vision_dpo", "needs mapping", form="vision preference", columns=("images", "prompt", "chosen", "rejected"))
def image_preferences(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = [{"image": {"bytes": picture(n), "path": None}} for n in range(60)]
    rows = [one | {"question": q, "chosen": a, "rejected": "No."} for one, (q, a) in zip(image, sums(), strict=True)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    return folder / "data.parquet"


@case("sft", "ready", rows=4000, columns=("messages",), problems={"broken": 1})
def one_broken_line_among_many(folder: Path) -> Path:
    text = lines([chat(f"Say {n}.", f"{n} it is.") for n in range(4001)]).splitlines(keepends=True)
    text[3300] = text[3300][:-9] + "\n"
    (folder / "data.jsonl").write_text("".join(text))
    return folder / "data.jsonl"


@case("sft", "needs mapping", form="prompt and completion", columns=("prompt", "completion"))
def columns_that_come_and_go(folder: Path) -> Path:
    rows: Rows = [{"question": q, "answer": a} for q, a in sums()]
    for n in range(40, 60):
        rows[n]["remark"] = {"by": n}
    return jsonl(folder, rows)


@case("classification", "needs mapping", form="text and label", columns=("text", "label"))
def csv_with_semicolons_and_numbers_as_text(folder: Path) -> Path:
    body = "".join(f"{n};007{n};'{q}';{('ja', 'nein')[n % 2]}\n" for n, (q, _) in enumerate(sums()))
    (folder / "data.csv").write_text(f"nr;code;comment;label\n{body}", encoding="utf-8-sig")
    return folder / "data.csv"
