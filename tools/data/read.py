"""Rows of a part, a batch at a time, each with its place: the line of a text file, else the row's number, from 1.

What cannot be read comes as a broken place with the reason and does not stop the rest, unless nothing after it can be
read. Half surrogate pairs (and, in csv and JSON arrays, bytes that are no UTF-8) stay in the text as lone surrogates;
whoever writes or tokenises the text must mend them.
"""

import csv
import io
import json
import lzma
import math
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from tools.context import ToolError
from tools.data.source import IMAGES, Part, split_of, unpacked

Row = dict[str, Any]
BATCH_ROWS = 2000
BLOCK = 2 << 20
WHOLE_JSON = 256 << 20  # a JSON file that is one object must fit in memory
ENDED = "the compressed data ends early or is damaged; nothing after this was read"
csv.field_size_limit(sys.maxsize)


@dataclass
class Batch:
    rows: list[Row] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)
    last: int = 0  # lines or rows of the part so far

    def add(self, at: int, row: Any) -> None:
        if type(row) is dict:
            self.rows.append(row)
            self.at.append(at)
        else:
            self.broken.append((at, f"not an object but {what_is(row)}"))


def what_is(value: Any) -> str:
    names = {"list": "a list", "str": "text", "int": "a number", "float": "a number", "NoneType": "null"}
    return names.get(type(value).__name__, type(value).__name__)


def read(part: Part) -> Iterator[Batch]:
    """All rows of the part in batches of bounded size."""
    readers = {"jsonl": read_lines, "txt": read_lines, "json": read_json, "csv": read_csv}
    readers |= {"parquet": read_parquet, "arrow": read_arrow, "images": read_images}
    return readers[part.format](part)


def head(part: Part, most: int) -> list[Row]:
    found: list[Row] = []
    for batch in read(part):
        found += batch.rows
        if len(found) >= most:
            break
    return found[:most]


# line by line


def blocks(part: Part) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time. A line belongs to the range it begins in."""
    with unpacked(part.path, part.packed) as stream:
        left = math.inf if part.end is None else part.end - part.start
        if part.start:
            stream.seek(part.start - 1)
            left -= len(stream.readline()) - 1
        while left > 0:
            block = stream.read(int(min(BLOCK, left)))
            if not block:
                return
            left -= len(block)
            if not block.endswith(b"\n"):
                rest = stream.readline()
                left -= len(rest)
                block += rest
            yield block


def read_lines(part: Part) -> Iterator[Batch]:
    take = add_text if part.format == "txt" else add_json
    number, first = 0, not part.start
    pieces = blocks(part)
    while True:
        batch = Batch(last=number)
        try:
            block = next(pieces, None)
        except (EOFError, OSError, lzma.LZMAError, zlib.error):
            batch.broken.append((number + 1, ENDED))
            batch.last = number + 1
            yield batch
            return
        if block is None:
            return
        if first:
            block, first = block.removeprefix(b"\xef\xbb\xbf"), False
        try:
            lines: list[Any] = block.decode().split("\n")
        except UnicodeDecodeError:
            lines = [decoded(line) for line in block.split(b"\n")]
        if not lines[-1]:
            lines.pop()
        for line in lines:
            number += 1
            if line is None:
                batch.broken.append((number, "not UTF-8"))
            else:
                take(batch, number, line)
            if len(batch.rows) >= BATCH_ROWS:
                batch.last = number
                yield batch
                batch = Batch()
        batch.last = number
        yield batch


def decoded(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def add_json(batch: Batch, number: int, line: str) -> None:
    try:
        batch.add(number, json.loads(line))
    except json.JSONDecodeError as error:
        if line.strip():
            batch.broken.append((number, f"no JSON: {error.msg} at character {error.pos + 1:,}"))
    except RecursionError:
        batch.broken.append((number, "nested too deeply"))


def add_text(batch: Batch, number: int, line: str) -> None:
    if line.strip():
        batch.add(number, {"text": line.rstrip("\r")})


# JSON files that are one array or one object


def read_json(part: Part) -> Iterator[Batch]:
    with unpacked(part.path, part.packed) as stream:
        sign = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    with unpacked(part.path, part.packed) as stream:
        if sign == b"{":
            yield from one_object(part, stream)
        else:
            yield from array(io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape"))


def array(stream: IO[str]) -> Iterator[Batch]:
    """Items of `[…]` one by one, without holding the file."""
    decoder, text, at, row, batch, size = json.JSONDecoder(), "", 0, 0, Batch(), 0
    chunk, ended, began = BLOCK, False, False
    while True:
        while (at < len(text) and text[at] in " \t\r\n,") or (not began and at < len(text) and text[at] == "["):
            began = began or text[at] == "["
            at += 1
        if at < len(text) and text[at] == "]":
            break
        try:
            value, end = decoder.raw_decode(text, at)
            whole = end < len(text) or ended
        except json.JSONDecodeError as error:
            value, end, whole, problem = None, at, False, error
        if whole:
            row += 1
            batch.add(row, value)
            size, at = size + end - at, end
            if len(batch.rows) >= BATCH_ROWS or size > 8 * BLOCK:
                batch.last, size = row, 0
                yield batch
                batch = Batch()
            continue
        if ended:
            if at < len(text) or not began:
                why = f"no JSON from here on ({problem.msg}); nothing after it was read"
            else:
                why = "the closing bracket of the array is missing"
            row += 1
            batch.broken.append((row, why))
            break
        more = stream.read(chunk)
        chunk = min(chunk * 2, 1 << 28) if len(text) - at > chunk else chunk
        ended = not more
        text, at = text[at:] + more, 0
    batch.last = row
    yield batch


def one_object(part: Part, stream: IO[bytes]) -> Iterator[Batch]:
    """`{"data": [rows]}`, columns as lists or as {"0": value}, or a single row."""
    content = stream.read(WHOLE_JSON + 1)
    if len(content) > WHOLE_JSON:
        raise ToolError(f"{part.path.name} is one JSON object of over 256 MB. Write it as jsonl, one row a line.")
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        yield Batch(broken=[(1, f"no JSON: {str(error)[:80]}")], last=1)
        return
    rows = rows_of(value)
    for start in range(0, len(rows), BATCH_ROWS):
        batch = Batch(last=min(start + BATCH_ROWS, len(rows)))
        for at, row in enumerate(rows[start : start + BATCH_ROWS], start + 1):
            batch.add(at, row)
        yield batch


def rows_of(value: Row) -> list[Any]:
    lists = {name: one for name, one in value.items() if isinstance(one, list) and one}
    tables = {name: one for name, one in lists.items() if all(isinstance(item, dict) for item in one)}
    if len(tables) == 1 and (len(lists) == 1 and (len(next(iter(tables.values()))) > 1 or "data" in tables)):
        return next(iter(tables.values()))
    same = len({len(one) for one in lists.values()}) == 1 and len(lists) == len(value)
    if same and not tables:
        return [dict(zip(lists, items, strict=True)) for items in zip(*lists.values(), strict=True)]
    keyed = [one for one in value.values() if isinstance(one, dict)]
    if keyed and len(keyed) == len(value) and all(list(one) == list(keyed[0]) and "0" in one for one in keyed):
        return [{name: one[key] for name, one in value.items()} for key in keyed[0]]
    return [value]


# csv


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
        except (EOFError, OSError, lzma.LZMAError, zlib.error):
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


# tables


def read_parquet(part: Part) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(part.path, memory_map=False)
        groups = list(range(part.start, file.metadata.num_row_groups if part.end is None else part.end))
        size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
        count = sum(file.metadata.row_group(group).num_rows for group in groups)
        batch_rows = max(1, min(BATCH_ROWS, count * 4 * BLOCK // max(size, 1)))
        yield from tables(file.iter_batches(batch_size=batch_rows, row_groups=groups))
    except (pa.ArrowException, OSError) as error:
        raise ToolError(f"{part.path.name} cannot be read as parquet: {str(error).splitlines()[0][:160]}.") from None


def read_arrow(part: Part) -> Iterator[Batch]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(part.path)) as mapped:
            try:
                file = pa.ipc.open_file(mapped)
                yield from tables(sliced(file.get_batch(n) for n in range(file.num_record_batches)))
            except pa.ArrowInvalid:
                mapped.seek(0)
                yield from tables(sliced(iter(pa.ipc.open_stream(mapped))))
    except (pa.ArrowException, OSError) as error:
        raise ToolError(f"{part.path.name} cannot be read as arrow: {str(error).splitlines()[0][:160]}.") from None


def sliced(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        step = max(1, min(BATCH_ROWS, batch.num_rows * 4 * BLOCK // max(batch.nbytes, 1)))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


def tables(batches: Iterable[Any]) -> Iterator[Batch]:
    done = 0
    for table in batches:
        names = column_names(table.schema.names)
        rows = table.rename_columns(names).to_pylist()
        yield Batch(rows, list(range(done + 1, done + len(rows) + 1)), [], done + len(rows))
        done += len(rows)


def read_images(part: Part) -> Iterator[Batch]:
    """Images in folders: the folder's name is the label."""
    found = sorted(p for p in part.path.rglob("*") if p.suffix.lower().lstrip(".") in IMAGES and p.is_file())
    batch = Batch()
    for path in found:
        inner = path.relative_to(part.path)
        if split_of(str(inner.parent)) != part.split:
            continue
        row = {"image": {"bytes": None, "path": str(path)}, "label": path.parent.name}
        batch.last += 1
        batch.add(batch.last, row)
    yield batch
