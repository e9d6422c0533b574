"""First half of a preparation: every row is read, mapped, mended or dropped, and what stays is staged in one file.

Staged rows keep their order; beside them lie their split, key, question key, label and, for near duplicates, signs. Of
a row only 25 bytes (and its label) stay in memory. Columns get their types from the first rows; a later value that does
not fit is a broken row.
"""

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tools.context import ToolError, here
from tools.data import duplicates, lengths
from tools.data.boxes import picture_fault
from tools.data.mapping import PICTURES, compiled
from tools.data.pictures import with_bytes
from tools.data.privacy import find, masked_value
from tools.data.read import read
from tools.data.rows import asked_of, fault, missing, picture_of, text_of, turns_of
from tools.data.source import Part, Source, folder_of

Row = dict[str, Any]
FIXES = {"broken": "drop_broken", "empty": "drop_empty"}
GROUP = 10_000


@dataclass
class Staged:
    path: Path
    rows_in: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    splits: "array[int]" = field(default_factory=lambda: array("B"))  # index into the source's splits, by staged row
    keys: "array[int]" = field(default_factory=lambda: array("Q"))
    asked: "array[int]" = field(default_factory=lambda: array("Q"))
    labels: list[Any] = field(default_factory=list)


class Stage:
    """Takes mapped rows and writes them down."""

    def __init__(self, folder: Path, source: Source, cures: list[Row], method: str, near: bool):
        self.folder, self.source, self.method, self.near = folder, source, method, near
        self.cures = {one["do"]: one for one in cures}
        self.staged = Staged(folder / "staged.parquet")
        self.spill = duplicates.Spill(folder, "near", source.size // 400 * duplicates.BANDS)
        long = self.cures.get("drop_long")
        self.tokens = lengths.counter(long["tokenizer"]) if long else None
        self.pending: list[tuple[Row, str, int]] = []
        self.writer: Any = None
        self.schema: Any = None

    def take(self, part: Part, code: str, columns: dict[str, str]) -> None:
        to_rows = compiled(code)
        split = self.source.splits.index(part.split)
        for batch in read(part):
            here().check()
            self.staged.rows_in += len(batch.rows) + len(batch.broken)
            for at, why in batch.broken:
                self.faulty("broken", why, part, at)
            made = [
                one
                for row, at in zip(batch.rows, batch.at, strict=True)
                for one in self.mapped(row, at, part, to_rows, columns)
            ]
            self.keep(made, split)

    def mapped(
        self, row: Row, at: int, part: Part, to_rows: Callable[[Row], list[Row]], columns: dict[str, str]
    ) -> list[Row]:
        problem = missing(row, columns)
        rows: list[Row] = []
        folder = folder_of(part)
        if not problem:
            try:
                rows = [with_bytes(one, folder) for one in to_rows(row)]
            except Exception as error:  # a row the mapping cannot take
                problem = "broken", f"{type(error).__name__}: {error}"
        problem = problem or next((found for one in rows if (found := fault(one, self.method))), None)
        if self.method in PICTURES:
            problem = problem or next((found for one in rows if (found := picture_fault(one, row, folder))), None)
        if problem:
            self.faulty(*problem, part, at)
            return []
        if not rows:
            self.staged.dropped["map"] += 1
        return rows

    def faulty(self, kind: str, why: str, part: Part, at: int) -> None:
        if FIXES[kind] not in self.cures:
            name = self.source.files[part.file].name
            raise ToolError(f"A row of {name} is {kind} (about {at:,}: {why}). Add the cure {{'do': '{FIXES[kind]}'}}.")
        self.staged.dropped[FIXES[kind]] += 1

    def keep(self, rows: list[Row], split: int) -> None:
        good: list[tuple[Row, str, int]] = []
        for row in rows:
            text = text_of(row)
            if not is_whole(text):
                row, self.staged.changed["repair"] = repaired(row), self.staged.changed["repair"] + 1
                text = text_of(row)
            private = ("mask" in self.cures or "drop_private" in self.cures) and any(True for _ in find(text))
            if private and "drop_private" in self.cures:
                self.staged.dropped["drop_private"] += 1
                continue
            if private:
                row, self.staged.changed["mask"] = masked_value(row), self.staged.changed["mask"] + 1
                text = text_of(row)
            good.append((row, text, split))
        if self.tokens:
            limit, counts = self.cures["drop_long"]["max_tokens"], self.tokens.count([text for _, text, _ in good])
            short = [n + turns_of(one[0]) * self.tokens.a_turn <= limit for one, n in zip(good, counts, strict=True)]
            self.staged.dropped["drop_long"] += short.count(False)
            good = [one for one, fits in zip(good, short, strict=True) if fits]
        self.pending += good
        while len(self.pending) >= GROUP:
            self.write(self.pending[:GROUP])
            self.pending = self.pending[GROUP:]

    def write(self, some: list[tuple[Row, str, int]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [row for row, *_ in some]
        if self.writer is None:
            self.schema = schema_of(rows, self.method)
            self.writer = pq.ParquetWriter(self.staged.path, self.schema, compression="zstd")
        try:
            table = pa.Table.from_pylist(rows, schema=self.schema)
        except (pa.ArrowException, TypeError, ValueError):
            some = [one for one in some if self.fits(one[0])]
            rows = [row for row, *_ in some]
            table = pa.Table.from_pylist(rows, schema=self.schema)
        self.writer.write_table(table)
        self.note(some)

    def fits(self, row: Row) -> bool:
        import pyarrow as pa

        try:
            pa.Table.from_pylist([row], schema=self.schema)
            return True
        except (pa.ArrowException, TypeError, ValueError) as error:
            if "drop_broken" not in self.cures:
                raise ToolError(
                    f"A row has other types than the first ones ({error}). Add {{'do': 'drop_broken'}}."
                ) from None
            self.staged.dropped["drop_broken"] += 1
            return False

    def note(self, some: list[tuple[Row, str, int]]) -> None:
        staged = self.staged
        texts = [text.encode() for _, text, _ in some]
        first = len(staged.keys)
        staged.splits.extend(split for *_, split in some)
        rows = [row for row, *_ in some]
        pictures = [picture_of(row) for row in rows]
        staged.keys.extend(duplicates.key_of(text + picture) for text, picture in zip(texts, pictures, strict=True))
        asked = [asked_of(row).encode() for row in rows]
        staged.asked.extend(duplicates.key_of(text + picture) for text, picture in zip(asked, pictures, strict=True))
        staged.labels += [
            row.get("label") if isinstance(row.get("label"), str | int | bool) else None for row, *_ in some
        ]
        if self.near and texts:
            enough, signs, bands = duplicates.signatures([text[: 1 << 20] for text in texts])
            ids = (first + enough).astype(np.uint64)
            duplicates.write_signs(self.folder, "stage", ids, signs)
            self.spill.write("stage", bands.ravel(), np.repeat(ids, duplicates.BANDS))

    def close(self) -> Staged:
        if self.pending:
            self.write(self.pending)
            self.pending = []
        if self.writer is None or not self.staged.keys:
            lost = ", ".join(f"{name} {count:,}" for name, count in self.staged.dropped.items())
            raise ToolError(f"No row is left of {self.staged.rows_in:,} ({lost}). inspect_dataset tells what is wrong.")
        self.writer.close()
        return self.staged


def is_whole(text: str) -> bool:
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


def repaired(value: Any) -> Any:
    """The value with half characters replaced by the sign for an unknown one."""
    if type(value) is str:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if type(value) is list:
        return [repaired(one) for one in value]
    if type(value) is dict:
        return {name: repaired(one) for name, one in value.items()}
    return value


def schema_of(rows: list[Row], method: str) -> Any:
    """The types of all columns; a column that holds nothing yet is text."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    fields = []
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            kind = pa.array(values).type
        except (pa.ArrowException, TypeError, ValueError):
            kind = pa.array(majority(values)).type
        fields.append(pa.field(name, filled(kind)))
    schema = pa.schema(fields)
    return with_images(schema) if {"image", "images"} & set(names) else schema


def majority(values: list[Any]) -> list[Any]:
    kinds = Counter(type(value) for value in values if value is not None)
    usual = kinds.most_common(1)[0][0]
    return [value for value in values if type(value) is usual][:100]


def filled(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(filled(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(one.name, filled(one.type)) for one in kind])
    return kind


def with_images(schema: Any) -> Any:
    """Says in the file which columns are images, so that `datasets` opens them as such."""
    import json

    import pyarrow as pa

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {}
    for place, name in enumerate(schema.names):
        if name == "image":
            schema, features[name] = schema.set(place, pa.field(name, picture)), {"_type": "Image"}
        elif name == "images":
            schema = schema.set(place, pa.field(name, pa.list_(picture)))
            features[name] = {"feature": {"_type": "Image"}, "_type": "List"}  # type: ignore[dict-item]
        else:
            from datasets.features.features import generate_from_arrow_type

            features[name] = plain_feature(generate_from_arrow_type(schema.field(name).type))
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def plain_feature(feature: Any) -> Any:
    from datasets import Features

    return Features({"one": feature}).to_dict()["one"]
