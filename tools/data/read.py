"""Rows of a part, a batch at a time, each with its place: the line of a text file, else the row's number, from 1.

What cannot be read comes as a broken place with the reason and does not stop the rest, unless nothing after it can be
read. Half surrogate pairs (and, in csv and JSON arrays, bytes that are no UTF-8) stay in the text as lone surrogates;
whoever writes or tokenises the text must mend them.
"""

import io
import json
import math
from collections.abc import Iterable, Iterator
from typing import IO, Any

from tools.context import ToolError
from tools.data.batch import BATCH_ROWS, BLOCK, DAMAGED, ENDED, Batch, Row
from tools.data.coco import is_coco, read_coco
from tools.data.separated import column_names, read_csv
from tools.data.source import Part, image_files, unpacked

WHOLE_JSON = 256 << 20  # a JSON file that is one object must fit in memory


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
            block = piece_of(stream, int(min(BLOCK, left))) if part.packed else stream.read(int(min(BLOCK, left)))
            if not block:
                return
            left -= len(block)
            if not block.endswith(b"\n"):
                try:
                    rest = stream.readline()
                except DAMAGED:
                    yield block[: block.rfind(b"\n") + 1]
                    raise
                left -= len(rest)
                block += rest
            yield block


def piece_of(stream: IO[bytes], most: int) -> bytes:
    """As much as can be unpacked; damage shows when nothing more can."""
    pieces, size = list[bytes](), 0
    while size < most:
        try:
            piece = stream.read1(most - size)  # type: ignore[attr-defined]
        except DAMAGED:
            if not pieces:
                raise
            break
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def read_lines(part: Part) -> Iterator[Batch]:
    take = add_text if part.format == "txt" else add_json
    number, first = 0, not part.start
    pieces = blocks(part)
    while True:
        batch = Batch(last=number)
        try:
            block = next(pieces, None)
        except DAMAGED:
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
            batch.broken.append((number, f"no JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1:,}"))
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
        except RecursionError:
            batch.broken.append((row + 1, "nested too deeply; nothing from here on was read"))
            row += 1
            break
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
    """`{"data": [rows]}`, columns as lists or as {"0": value}, pictures with annotations, or a single row."""
    content = stream.read(WHOLE_JSON + 1)
    if len(content) > WHOLE_JSON:
        raise ToolError(f"{part.path.name} is one JSON object of over 256 MB. Write it as jsonl, one row a line.")
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        yield Batch(broken=[(1, f"no JSON: {str(error)[:80]}")], last=1)
        return
    if is_coco(value):
        yield from read_coco(value, part)
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
        raise ToolError(f"{part.path.name} cannot be read as parquet: {brief(error)}.") from None


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
        raise ToolError(f"{part.path.name} cannot be read as arrow: {brief(error)}.") from None


def brief(error: Exception) -> str:
    return str(error).splitlines()[0][:160].rstrip(".")


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
    batch = Batch()
    for path in image_files(part.path, part.split):
        row = {"image": {"bytes": None, "path": str(path)}, "label": path.parent.name}
        batch.last += 1
        batch.add(batch.last, row)
    yield batch
