"""Looks at every row of a part and counts: what is broken or empty, kinds of values, labels, lengths, personal data.

Runs in a worker; its Tally is small however many rows there are, apart from a bounded sample of texts. Keys for finding
duplicates go to files. Rows are told by id: the part's number and the line or row in it.
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tools.data import duplicates, privacy
from tools.data.batch import Batch
from tools.data.boxes import picture_fault
from tools.data.labels import MOST_LABELS
from tools.data.mapping import compiled
from tools.data.read import read
from tools.data.rows import asked_of, fault, missing, picture_of, text_of, texts_in, turns_of
from tools.data.source import Part, folder_of

SHIFT = 40
FIRST = 5  # places told of each problem
MOST_KINDS = 2000
CLIP = 50_000  # characters of a sampled text
GOLDEN = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1
BINS = 256  # lengths by quarters of a power of two


@dataclass(frozen=True)
class Task:
    """What to look for. Without code a row's own texts are looked at."""

    method: str | None
    code: str | None
    columns: dict[str, str]
    label: str | None
    folder: Path
    rows: int  # about how many there are in all
    share: float  # of the rows to sample
    near: bool
    splits: bool
    pictures: bool = False


@dataclass
class Finding:
    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)  # id, detail
    details: Counter[str] = field(default_factory=Counter)

    def add(self, id: int, detail: str) -> None:
        self.count += 1
        if len(self.first) < FIRST:
            self.first.append((id, detail))
        if len(self.details) < 100 or detail in self.details:
            self.details[detail] += 1

    def merge(self, other: "Finding") -> None:
        self.count += other.count
        self.first = sorted(self.first + other.first)[:FIRST]
        self.details.update(other.details)


@dataclass
class Tally:
    rows: int = 0
    lines: dict[int, int] = field(default_factory=dict)  # lines or rows by part
    found: dict[str, Finding] = field(default_factory=dict)
    kinds: Counter[tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=Counter)
    labels: Counter[Any] = field(default_factory=Counter)
    by_split: Counter[str] = field(default_factory=Counter)
    bins: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    text_bytes: int = 0
    turns: int = 0
    longest: tuple[int, int] = (0, 0)  # bytes, id
    sample: list[tuple[int, int, int, str]] = field(default_factory=list)  # id, bytes, turns, text

    def add(self, kind: str, id: int, detail: str) -> None:
        self.found.setdefault(kind, Finding()).add(id, detail)

    def merge(self, other: "Tally") -> None:
        self.rows += other.rows
        self.lines |= other.lines
        for kind, finding in other.found.items():
            self.found.setdefault(kind, Finding()).merge(finding)
        for mine, theirs in ((self.kinds, other.kinds), (self.labels, other.labels), (self.by_split, other.by_split)):
            mine.update(theirs)  # type: ignore[arg-type]
        self.bins += other.bins
        self.text_bytes += other.text_bytes
        self.turns += other.turns
        self.longest = max(self.longest, other.longest)
        self.sample += other.sample


@dataclass
class Good:
    """The good rows of a batch; `keys` and `questions` tell the same from the other."""

    ids: list[int]
    texts: list[bytes]
    keys: list[int]
    questions: list[int]


def bin_of(size: int) -> int:
    """Four bins to each doubling."""
    if size < 8:
        return size
    power = size.bit_length() - 1
    return power * 4 + ((size >> (power - 2)) & 3) - 4


def bin_start(number: int) -> int:
    if number < 8:
        return number
    power, quarter = divmod(number + 4, 4)
    return (4 + quarter) << (power - 2)


def scan(task: Task, part: Part) -> Tally:
    tally = Tally()
    to_rows = compiled(task.code) if task.code else None
    writer = f"{os.getpid()}"
    exact = duplicates.Spill(task.folder, "exact", task.rows)
    asked = duplicates.Spill(task.folder, "asked", task.rows)
    near = duplicates.Spill(task.folder, "near", task.rows * duplicates.BANDS)
    for batch in read(part):
        base = part.index << SHIFT
        for at, why in batch.broken:
            tally.add("broken", base | at, why)
        good = rows(task, part, batch, to_rows, tally)
        tally.lines[part.index] = batch.last
        numbers = np.array(good.ids, np.uint64)
        exact.write(writer, np.array(good.keys, np.uint64), numbers)
        if task.splits:
            asked.write(writer, np.array(good.questions, np.uint64), numbers)
        if task.near and good.texts:
            enough, signs, bands = duplicates.signatures([text[: 1 << 20] for text in good.texts])
            if len(enough):
                duplicates.write_signs(task.folder, writer, numbers[enough], signs)
                near.write(writer, bands.ravel(), np.repeat(numbers[enough], duplicates.BANDS))
        private(good.ids, good.texts, tally)
    return tally


def rows(task: Task, part: Part, batch: Batch, to_rows: Callable[[Any], Any] | None, tally: Tally) -> Good:
    """Checks each row and counts what there is to count."""
    base = part.index << SHIFT
    ids, texts, keys, questions = list[int](), list[bytes](), list[int](), list[int]()
    threshold, folder = int(task.share * WORD), folder_of(part)
    for at, row in zip(batch.at, batch.rows, strict=True):
        id = base | at
        tally.rows += 1
        count_kinds(tally, row)
        if to_rows:
            problem = missing(row, task.columns)
            made = []
            if not problem:
                try:
                    made = to_rows(row)
                except Exception as error:  # a row the mapping cannot take is what we look for
                    problem = "broken", said(error)
            problem = problem or next((one for r in made if (one := fault(r, task.method or ""))), None)
            if task.pictures:
                problem = problem or next((one for r in made if (one := picture_fault(r, row, folder))), None)
            if problem:
                tally.add(problem[0], id, problem[1])
                continue
            if not made:  # left out by the mapping, as are answers that were rated bad
                continue
            text = "\n".join(map(text_of, made))
            turns = sum(map(turns_of, made))
        else:
            made, turns, text = [row], 0, "\n".join(texts_in(row)) or repr(row)
        if task.label and to_rows:
            count_labels(tally, row.get(task.label))
        for objects in (one["objects"] for one in made if task.pictures and "objects" in one):
            count_labels(tally, objects["category"])
        tally.by_split[part.split] += 1
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            tally.add("half characters", id, "half a surrogate pair, or bytes that are no UTF-8")
            raw = text.encode(errors="replace")
        size = len(raw)
        tally.bins[bin_of(size)] += 1
        tally.text_bytes += size
        tally.turns += turns
        if size > tally.longest[0]:
            tally.longest = (size, id)
        if ((id * GOLDEN) ^ (id >> SHIFT) * 0xD1B54A32D192ED03) & WORD < threshold:
            tally.sample.append((id, size, turns, raw[:CLIP].decode(errors="replace")))
        ids.append(id)
        texts.append(raw)
        picture = picture_of(made[0]) if made and not task.near else b""
        keys.append(duplicates.key_of(raw + picture))
        if task.splits:
            asked = asked_of(made[0]).encode(errors="replace") if made else raw
            questions.append(duplicates.key_of(asked + picture))
    return Good(ids, texts, keys, questions)


def said(error: Exception) -> str:
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, KeyError):
        what = f"there is no {error}"
    elif isinstance(error, (TypeError, AttributeError)):
        what = f"values of the wrong type ({error})"
    return what[:120]


def count_kinds(tally: Tally, row: dict[str, Any]) -> None:
    kinds = tuple(row), tuple(type(value).__name__ for value in row.values())
    if kinds in tally.kinds or len(tally.kinds) < MOST_KINDS:
        tally.kinds[kinds] += 1


def count_labels(tally: Tally, label: Any) -> None:
    for one in label if type(label) is list else (label,):
        if isinstance(one, str | int | bool | float) and (len(tally.labels) <= MOST_LABELS or one in tally.labels):
            tally.labels[one] += 1


def private(ids: list[int], texts: list[bytes], tally: Tally) -> None:
    """One search over the whole batch; only finds are traced back to their rows."""
    joined = "\n\n".join([text.decode(errors="replace") for text in texts])
    found = list(privacy.find(joined))
    if not found:
        return
    ends = np.cumsum([len(text.decode(errors="replace")) + 2 for text in texts])
    seen = set()
    for kind, start, _ in sorted(found, key=lambda one: one[1]):
        id = ids[int(np.searchsorted(ends, start, side="right"))]
        if (kind, id) not in seen:
            seen.add((kind, id))
            tally.add("secret" if kind == "secret" else "private", id, kind)
