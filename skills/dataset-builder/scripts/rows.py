"""Reading rows and recognising their form; shared by the scripts beside it."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROLES = {
    "system": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "tool": "tool", "function_response": "tool", "observation": "tool",
}  # fmt: skip


class Unusable(Exception):
    """Why rows cannot be read or converted, in one line."""


def read(path: Path) -> list[dict[str, Any]]:
    try:
        rows = list(parsed(path))
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}. Name a file.") from None
    except ValueError as error:
        raise Unusable(f"{path} is not understood: {error}. Save it as UTF-8 JSONL, JSON or CSV.") from None
    if not rows:
        raise Unusable(f"{path} has no rows.")
    return rows


def parsed(path: Path) -> Iterator[dict[str, Any]]:
    kind = path.suffix.lower()
    if kind == ".parquet":
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(path).to_pylist()
        return
    if kind not in (".csv", ".tsv", ".jsonl", ".json", ".ndjson"):
        raise ValueError(f"a {kind or 'nameless'} file")
    text = path.read_text("utf-8-sig")
    if kind in (".csv", ".tsv"):
        yield from csv.DictReader(text.splitlines(keepends=True), delimiter="\t" if kind == ".tsv" else ",")
        return
    if kind == ".json":
        rows = json.loads(text)
        rows = (
            next((value for value in rows.values() if isinstance(value, list)), [rows])
            if isinstance(rows, dict)
            else rows
        )
    else:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is no object")
        yield row


def form_of(row: dict[str, Any]) -> str:
    """The training form of a row, by the names of its columns."""
    has = set(row).issuperset
    if has({"messages"}):
        return "sft-messages"
    if has({"conversations"}):
        return "sharegpt"
    if has({"prompt", "completions", "labels"}):
        return "prm"
    if has({"chosen", "rejected"}):
        return "dpo"
    if has({"prompt", "completion", "label"}):
        return "kto"
    if has({"prompt", "completion"}):
        return "sft-prompt"
    if has({"text", "label"}):
        return "classification"
    if has({"anchor", "positive"}):
        return "pairs"
    if has({"prompt"}):
        return "grpo"
    if has({"text"}):
        return "text"
    return "tokenised" if has({"input_ids"}) else "unknown"


def texts(value: Any) -> Iterator[str]:
    """Every text in a value: of messages only what was said."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        inner = value.get("content", value.get("value", list(value.values())))
        yield from texts(inner)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def normal(value: Any) -> str:
    """What stays of a text when case, blanks and punctuation do not count; signs do, so that `1+1` is not `1-1`."""
    joined = " ".join(texts(value)).casefold()
    return " ".join(re.sub(r"[.,;:!?\"'’“”()\[\]…]", " ", joined).split())


def question(row: dict[str, Any]) -> str:
    """What is asked in a row: rows that ask the same belong to one side of a split."""
    for name in ("prompt", "anchor"):
        if name in row:
            return normal(row[name])
    talk = row.get("messages") or row.get("conversations")
    if isinstance(talk, list):
        said = [one for one in talk if isinstance(one, dict)]
        return normal([one for one in said if ROLES.get(one.get("role", one.get("from", ""))) == "user"][:1])
    if isinstance(row.get("chosen"), list):
        return normal(row["chosen"][:-1])
    return normal(row.get("text", list(row.values())))
