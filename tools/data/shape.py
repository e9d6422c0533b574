"""What form the rows have: chat, ShareGPT turns, prompt and completion, preferences, labels, text, images and so on.

Recognised from names and values of some rows; a name that is only like the usual one lowers the confidence. A form
names the columns by their role; whether every row keeps to it, the scan finds out.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
IMAGE_NAME = re.compile(r"\.(jpe?g|png|webp|bmp|gif|tiff?)$|^data:image/", re.IGNORECASE)
SPEAKERS = ("from", "role", "speaker", "author", "sender", "user", "name")
SAYINGS = ("value", "content", "text", "message", "utterance", "body")

# How well a word in a column's name tells its role.
WORDS: dict[str, dict[str, float]] = {
    "prompt": {"prompt": 1, "question": 0.95, "instruction": 0.95, "query": 0.95, "problem": 0.9, "input": 0.8}
    | {
        "request": 0.8,
        "task": 0.7,
        "user": 0.8,
        "human": 0.8,
        "ask": 0.7,
        "inputs": 0.8,
        "source": 0.6,
        "document": 0.6,
        "article": 0.6,
    },
    "completion": {"completion": 1, "answer": 0.95, "response": 0.95, "output": 0.9, "reply": 0.9, "solution": 0.9}
    | {
        "target": 0.8,
        "assistant": 0.8,
        "bot": 0.8,
        "generation": 0.8,
        "targets": 0.8,
        "answers": 0.7,
        "result": 0.6,
        "summary": 0.85,
    },
    "chosen": {"chosen": 1, "good": 0.9, "better": 0.9, "winner": 0.9, "win": 0.85, "preferred": 0.95, "accepted": 0.9}
    | {"best": 0.85, "positive": 0.8},
    "rejected": {"rejected": 1, "bad": 0.9, "worse": 0.9, "loser": 0.9, "lose": 0.85, "dispreferred": 0.95}
    | {"worst": 0.85, "negative": 0.8},
    "label": {
        "label": 1,
        "labels": 0.95,
        "class": 0.95,
        "category": 0.95,
        "sentiment": 0.9,
        "intent": 0.9,
        "topic": 0.85,
    }
    | {"stars": 0.8, "rating": 0.8, "emotion": 0.9, "feedback": 0.8, "liked": 0.85, "thumbs": 0.85, "is": 0.6},
    "text": {"text": 1, "content": 0.9, "document": 0.9, "body": 0.85, "passage": 0.85, "sentence": 0.9, "review": 0.9}
    | {"article": 0.85, "story": 0.85, "code": 0.8, "comment": 0.8, "tweet": 0.85, "title": 0.6, "abstract": 0.8},
    "anchor": {"anchor": 1, "query": 0.95, "sentence1": 0.95, "premise": 0.9, "question": 0.8, "text1": 0.85}
    | {"question1": 0.95},
    "positive": {"positive": 1, "pos": 0.95, "sentence2": 0.95, "passage": 0.9, "document": 0.85, "hypothesis": 0.9}
    | {"text2": 0.85, "answer": 0.75, "question2": 0.95},
    "negative": {"negative": 1, "neg": 0.95, "negatives": 0.9},
    "score": {"score": 1, "similarity": 0.95, "label": 0.8, "relatedness": 0.9, "is_duplicate": 0.95},
    "tokens": {"tokens": 1, "words": 0.95},
    "tags": {"ner_tags": 1, "tags": 0.95, "labels": 0.9, "pos_tags": 0.85, "ner": 0.9},
    "image": {"image": 1, "images": 1, "img": 0.95, "picture": 0.9, "photo": 0.9, "file_name": 0.9, "filename": 0.85},
    "input": {"input": 1, "context": 0.9},
    "system": {"system": 1, "system_prompt": 1},
    "tools": {"tools": 1, "functions": 0.9},
}


@dataclass(frozen=True)
class Column:
    name: str
    kind: str
    mixed: tuple[str, ...] = ()  # other kinds that also occur
    distinct: int = 0
    length: float = 0.0  # mean characters of texts


@dataclass(frozen=True)
class Form:
    name: str
    columns: dict[str, str]
    confidence: float
    kinds: dict[str, str] = field(default_factory=dict)  # by role
    details: dict[str, Any] = field(default_factory=dict)


def kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return kind_of_text(value)
        case bytes():
            return "bytes"
        case dict():
            return "image" if value and set(value) <= {"bytes", "path"} else "object"
        case list() if value:
            return kind_of_list([one for one in value if one is not None])
        case list():
            return "null"
    return "other"


def kind_of_text(value: str) -> str:
    if len(value) < 400 and IMAGE_NAME.search(value) and " " not in value:
        return "image path"
    if value.startswith("[{"):
        try:
            if kind_of(json.loads(value)) == "messages":
                return "messages as JSON"
        except (ValueError, RecursionError):
            pass
    return "text"


def kind_of_list(items: list[Any]) -> str:
    if not items:
        return "null"
    if all(isinstance(one, str) for one in items):
        return "image paths" if all(kind_of_text(one) == "image path" for one in items) else "texts"
    if all(isinstance(one, int) and not isinstance(one, bool) for one in items):
        return "ints"
    if all(isinstance(one, bool | int | float) for one in items):
        return "floats"
    if all(isinstance(one, dict) for one in items):
        if all("role" in one and ("content" in one or "tool_calls" in one) for one in items):
            return "messages"
        if all(kind_of(one) == "image" for one in items):
            return "images"
        return "turns" if turn_keys(items) else "objects"
    return "list"


def turn_keys(items: list[Row]) -> tuple[str, str] | None:
    """Which key tells who speaks, and which what is said."""
    who = next((key for key in SPEAKERS if all(isinstance(one.get(key), str) for one in items)), None)
    what = next((key for key in SAYINGS if key != who and all(key in one for one in items)), None)
    return (who, what) if who and what else None


def columns_of(rows: list[Row]) -> list[Column]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [column_of(name, [row.get(name) for row in rows]) for name in names]


def column_of(name: str, values: list[Any]) -> Column:
    kinds = Counter(kind_of(value) for value in values)
    kinds.pop("null", None)
    if not kinds:
        return Column(name, "null")
    kind = kinds.most_common(1)[0][0]
    if "messages" in kinds and kind == "turns":
        kind = "turns"
    if kind == "image path" and kinds["text"]:
        kind = "text"
    others = tuple(
        other for other in kinds if other != kind and {other, kind} not in ({"int", "float"}, {"bool", "int"})
    )
    texts = [value for value in values if isinstance(value, str)]
    length = sum(map(len, texts)) / len(texts) if texts else 0.0
    distinct = len({value for value in values if isinstance(value, str | int | float)})
    return Column(name, kind, others, distinct, length)


def fit(name: str, role: str) -> float:
    """How well a column's name tells this role: 1 for the usual name, less for one that only contains such a word."""
    words = WORDS[role]
    plain = name.strip().lower()
    joined = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip()).lower()).strip("_")
    best = max(words.get(plain, 0.0), words.get(joined, 0.0), words.get(joined.replace("_", ""), 0.0))
    if best:
        return best
    return max((words.get(word, 0.0) * 0.85 for word in joined.split("_")), default=0.0)


class Columns:
    """The columns of some rows, to be asked for the best one of a role."""

    def __init__(self, columns: Iterable[Column], given: dict[str, str], folder: Path | None = None):
        self.all = {column.name: column for column in columns}
        self.given, self.folder = given, folder  # the folder is where paths in the rows begin

    def best(self, role: str, kinds: Iterable[str], used: Iterable[str] = (), least: float = 0.5) -> tuple[str, float]:
        """Name and confidence; ("", 0) when none will do."""
        if role in self.given:
            return (self.given[role], 1.0) if self.kind(self.given[role]) in kinds else ("", 0.0)
        taken = {*used, *self.given.values()}
        found = [(fit(c.name, role), c.name) for c in self.all.values() if c.kind in kinds and c.name not in taken]
        confidence, name = max(found, key=lambda one: one[0], default=(0.0, ""))
        return (name, confidence) if confidence >= least else ("", 0.0)

    def kind(self, name: str) -> str:
        return self.all[name].kind if name in self.all else ""

    def of_kind(self, *kinds: str) -> list[Column]:
        return [column for column in self.all.values() if column.kind in kinds]

    def form(self, name: str, confidence: float, columns: dict[str, str], **details: Any) -> Form:
        columns = {role: column for role, column in columns.items() if column}
        return Form(name, columns, round(confidence, 2), {r: self.kind(c) for r, c in columns.items()}, details)
