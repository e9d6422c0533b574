"""Rows of csv and tsv: the delimiter is guessed, types are settled by the first rows, quotes may span lines.

A record is told by the line it begins on. Columns of one name get numbers; an empty field is None.
"""

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tools.data.batch import BATCH_ROWS, DAMAGED, ENDED, Batch
from tools.data.source import Part, unpacked

csv.field_size_limit(sys.maxsize)


def read_csv(part: Part) -> Iterator[Batch]:
    with unpacked(part.path, part.packed) as raw:
        delimiter = delimiter_of(io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="").readline())
    with unpacked(part.path, part.packed) as raw:
        text = io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        yield from records(reader)


def delimiter_of(line: str) -> str:
    return max(",\t;|", key=line.count)


def records(reader: Any) -> Iterator[Batch]:
    names = column_names(next(reader, []))
    convert: dict[int, Any] | None = None
    batch, start = Batch(), reader.line_num
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            batch.broken.append((start + 1, f"csv: {error}"))
            start = reader.line_num
            continue
        except DAMAGED:
            batch.broken.append((start + 1, ENDED))
            values = None
        if values is None:
            break
        at, start = start + 1, reader.line_num
        if not values:
            continue
        if len(values) != len(names):
            batch.broken.append((at, f"{len(values)} fields where the header has {len(names)}"))
            continue
        batch.add(at, dict(zip(names, values, strict=True)))
        if len(batch.rows) >= BATCH_ROWS:
            batch.last = start
            convert = typed(batch, names, convert)
            yield batch
            batch = Batch()
    batch.last = start
    typed(batch, names, convert)
    yield batch


def column_names(given: Iterable[Any]) -> list[str]:
    """Names that repeat get a number: text, text_2."""
    seen: dict[str, int] = {}
    names = []
    for position, name in enumerate(given):
        name = str(name).strip() or f"column_{position + 1}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


def typed(batch: Batch, names: list[str], kinds: dict[int, Any] | None) -> dict[int, Any]:
    """Numbers and true/false as such where the first batch holds nothing else; empty fields as None."""
    if kinds is None:
        kinds = {n: column_type([row[name] for row in batch.rows]) for n, name in enumerate(names)}
    for position, name in enumerate(names):
        kind = kinds[position]
        for row in batch.rows:
            value = row[name]
            if value == "":
                row[name] = None
            elif kind:
                row[name] = kind(value)
    return kinds


def column_type(values: list[str]) -> Any:
    filled = [value for value in values if value != ""]
    if not filled:
        return None
    for kind in (boolean, whole, real):
        if all(type(kind(value)) is not str for value in filled):
            return kind
    return None


def boolean(value: str) -> Any:
    return {"true": True, "false": False}.get(value.lower(), value)


def whole(value: str) -> Any:
    plain = value.lstrip("-").isdigit() and value.isascii() and (value.lstrip("-")[0] != "0" or len(value) == 1)
    return int(value) if plain and len(value) < 19 else value


def real(value: str) -> Any:
    try:
        return float(value) if value.strip()[-1:].isdigit() else value
    except ValueError:
        return value
