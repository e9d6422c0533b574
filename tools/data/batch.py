"""What readers hand on: some rows with their places, and what was broken between them."""

import lzma
import zlib
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
BATCH_ROWS = 2000
BLOCK = 2 << 20
ENDED = "the compressed data ends early or is damaged; nothing after this was read"
DAMAGED = (EOFError, OSError, lzma.LZMAError, zlib.error)


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
