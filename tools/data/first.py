"""A look at some rows from the beginning, the middle and the end, to recognise the form before everything is read."""

import csv
import io
import json
from collections import Counter
from typing import Any

from tools.context import ToolError
from tools.data.read import read
from tools.data.rows import texts_in
from tools.data.separated import delimiter_of
from tools.data.source import Part, Source, unpacked

Row = dict[str, Any]
EACH, MOST_CHARACTERS = 200, 24 << 20


def first_rows(source: Source) -> list[Row]:
    parts = source.parts
    chosen = list(dict.fromkeys([parts[0], parts[len(parts) // 2], parts[-1]]))
    found: list[Row] = []
    why = ""
    for part in chosen:
        rows, problem = some(part)
        found += rows
        why = why or problem
    if not found:
        raise ToolError(f"No row of {source.name!r} can be read{why or ': there is none'}. Check the file's format.")
    return found


def some(part: Part) -> tuple[list[Row], str]:
    rows: list[Row] = []
    why, size = "", 0
    for batch in read(part):
        if batch.broken and not why:
            why = f": at {batch.broken[0][0]}, {batch.broken[0][1]}"
        for row in batch.rows:
            rows.append(row)
            size += sum(map(len, texts_in(row)))
            if len(rows) == EACH or size > MOST_CHARACTERS:
                return rows, why
        if len(rows) == 0 and batch.last > 100_000:
            break
    return rows, why


def repeated_columns(source: Source) -> list[str]:
    """Names that stand twice in a header, or in one JSON object, where the last one wins."""
    found: Counter[str] = Counter()
    for part in source.parts[:1]:
        names: list[str] = []
        if part.format == "csv":
            with unpacked(part.path, part.packed) as raw:
                line = io.TextIOWrapper(raw, "utf-8-sig", errors="replace").readline()
            names = next(csv.reader([line], delimiter=delimiter_of(line)), [])
        elif part.format == "parquet":
            import pyarrow.parquet as pq

            names = pq.read_schema(part.path).names
        elif part.format == "jsonl":
            names = repeated_keys(part)
        found.update(name.strip() for name in names)
    return [name for name, count in found.items() if count > 1]


def repeated_keys(part: Part) -> list[str]:
    twice: list[str] = []

    def keys(pairs: list[tuple[str, Any]]) -> Row:
        count = Counter(name for name, _ in pairs)
        twice.extend(name for name, number in count.items() if number > 1)
        return dict(pairs)

    with unpacked(part.path, part.packed) as raw:
        for _ in range(EACH):
            try:
                json.loads(raw.readline(1 << 20), object_pairs_hook=keys)
            except (ValueError, RecursionError, OSError, EOFError):
                continue
    return [name for name in dict.fromkeys(twice) for _ in range(2)]
