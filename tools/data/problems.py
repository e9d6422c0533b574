"""From counts to problems: what it is, how many rows, where the first of them stand, and the cure for it."""

from collections import Counter
from typing import Any

import numpy as np

from tools.data.scan import FIRST, SHIFT, Finding, Tally
from tools.data.source import Source

FEW = 50
UNEVEN = 10
KINDS = {
    "broken": ("rows that cannot be read or have the wrong types", {"do": "drop_broken"}),
    "empty": ("rows in which something needed is empty", {"do": "drop_empty"}),
    "half characters": ("rows with half characters, which no tokenizer takes", {"do": "repair"}),
    "private": ("rows with likely personal data", {"do": "mask"}),
    "secret": ("rows with likely passwords or keys", {"do": "mask"}),
}


class Places:
    """Turns a row's id into its file and its line (or row, where a file has no lines)."""

    def __init__(self, source: Source, lines: dict[int, int]):
        self.source, self.base = source, {}
        before: Counter[int] = Counter()
        for part in source.parts:
            self.base[part.index] = before[part.file]
            before[part.file] += lines.get(part.index, 0)

    def of(self, id: int) -> dict[str, Any]:
        part = self.source.parts[id >> SHIFT]
        number = self.base[part.index] + (id & ((1 << SHIFT) - 1))
        unit = "line" if part.format in ("jsonl", "txt", "csv") else "row"
        return {"file": self.source.files[part.file].name, unit: number}

    def split(self, id: int) -> str:
        return self.source.parts[id >> SHIFT].split


def told(place: dict[str, Any], several: bool) -> str:
    unit = "line" if "line" in place else "row"
    return f"{place['file']} {unit} {place[unit]:,}" if several else f"{unit} {place[unit]:,}"


def problem(id: str, what: str, count: int, rows: int, cure: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {"id": id, "what": what, "count": count, "share": round(count / max(rows, 1), 5), "cure": cure, **more}


def from_tally(tally: Tally, places: Places) -> list[dict[str, Any]]:
    found = []
    for kind, (what, cure) in KINDS.items():
        finding: Finding | None = tally.found.get(kind)
        if not finding:
            continue
        where = [places.of(id) | {"why": why} for id, why in finding.first]
        kinds = dict(sorted(finding.details.items(), key=lambda one: (-one[1], one[0]))[:8])
        found.append(problem(kind, what, finding.count, tally.rows, cure, where=where, kinds=kinds))
    return found


def within(pairs: np.ndarray, places: Places) -> np.ndarray:
    """Which pairs lie in one split."""
    order = places.source.splits
    splits = np.array([order.index(part.split) for part in places.source.parts])
    parts = (pairs >> np.uint64(SHIFT)).astype(np.int64)
    return splits[parts[:, 0]] == splits[parts[:, 1]]


def duplicates(pairs: np.ndarray, near: bool, rows: int, places: Places) -> list[dict[str, Any]]:
    """Pairs of (earlier, later) rows; those across splits are leaks and not told here."""
    pairs = pairs[within(pairs, places)]
    if not len(pairs):
        return []
    where = [places.of(int(b)) | {"why": f"like {told(places.of(int(a)), True)}"} for a, b in pairs[:FIRST]]
    what = "rows that nearly repeat an earlier one" if near else "rows that repeat an earlier one"
    cure = {"do": "dedupe_near" if near else "dedupe"}
    return [problem("near_duplicates" if near else "duplicates", what, len(pairs), rows, cure, where=where)]


def leaks(pairs: np.ndarray, rows: int, places: Places) -> list[dict[str, Any]]:
    """Rows of a later split that ask what a row of an earlier split asks."""
    pairs = pairs[~within(pairs, places)]
    if not len(pairs):
        return []
    where = [places.of(int(b)) | {"why": f"asks the same as {told(places.of(int(a)), True)}"} for a, b in pairs[:FIRST]]
    by = Counter(f"{places.split(int(a))} and {places.split(int(b))}" for a, b in pairs)
    what = "rows that ask what a row of another split asks"
    return [problem("leakage", what, len(pairs), rows, {"do": "drop_leaks"}, where=where, kinds=dict(by))]


def from_facts(
    rows: int,
    splits: list[str],
    lengths: dict[str, Any],
    labels: Counter[Any],
    mixed: dict[str, list[str]],
    repeated: list[str],
) -> list[dict[str, Any]]:
    found = []
    if lengths.get("rows_over"):
        limit = lengths["max_length"]
        what = f"rows longer than {limit:,} tokens, which training would cut"
        found.append(problem("long", what, lengths["rows_over"], rows, {"do": "drop_long", "max_tokens": limit}))
    if len(labels) > 1 and max(labels.values()) >= UNEVEN * min(labels.values()):
        (most, many), (least, few) = labels.most_common()[0], labels.most_common()[-1]
        what = f"labels are uneven: {most!r} {many:,} times, {least!r} {few:,}"
        found.append(problem("imbalance", what, many, rows, {"do": "balance", "most": UNEVEN}))
    if len(labels) == 1:
        what = f"there is only one label, {next(iter(labels))!r}: nothing to learn from it"
        found.append(problem("one_label", what, rows, rows, None))
    for name, kinds in mixed.items():
        what = f"the column {name!r} holds values of several types: {', '.join(kinds)}"
        found.append(problem("mixed_types", what, rows, rows, {"do": "map"}))
    for name in repeated:
        what = (
            f"the column {name!r} stands there twice; of a JSON object the last is kept, a table's second is {name}_2"
        )
        found.append(problem("repeated_column", what, rows, rows, {"do": "map"}))
    if rows < FEW:
        found.append(problem("few", f"{rows} rows are hardly enough to train or to judge by", rows, rows, None))
    if "validation" not in splits and "test" not in splits and rows >= FEW:
        what = "there is no validation split to judge by"
        found.append(problem("no_validation", what, 0, rows, {"do": "split", "validation": 0.05}))
    return found
