"""A streaming reader of multipart/form-data: one part after the other, in memory that does not grow with the form.

It understands what HTTP clients send today: quoted parameters, UTF-8 names, backslash escapes and the percent codes
that forms use for quotes and control characters. A name that really holds such a code (`a%22b`) is read as that.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .wire import HttpError

HEAD_LIMIT = 16 * 1024
BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,200})"|([^\s";]{1,200}))', re.IGNORECASE)
PARAMETER = re.compile(r'[;\s](name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
ESCAPE = re.compile(r"\\(.)|%(22|[01][0-9A-F])", re.DOTALL)


@dataclass
class Part:
    name: str
    filename: str | None


class Form:
    """`async for part in form.parts()`, and inside it `async for chunk in form.content()` for what the part holds."""

    def __init__(self, content_type: str, chunks: AsyncIterator[bytes]):
        found = BOUNDARY.search(content_type)
        if not found:
            raise HttpError(400, "The multipart form names no boundary")
        self.mark = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
        self.chunks = chunks
        self.pending = b"\r\n"  # so that the first boundary looks like all others
        self.inside = True

    async def parts(self) -> AsyncIterator[Part]:
        while True:
            async for _ in self.content():
                pass
            head = await self.head()
            if head is None:
                break
            self.inside = True
            yield parse_head(head)
        async for _ in self.chunks:
            pass

    async def content(self) -> AsyncIterator[bytes]:
        """What is left of the part, up to the boundary that ends it."""
        keep = len(self.mark) - 1
        while self.inside:
            at = self.pending.find(self.mark)
            if at >= 0:
                piece, self.pending = self.pending[:at], self.pending[at + len(self.mark) :]
                self.inside = False
                yield piece
            else:
                if len(self.pending) > keep:
                    piece, self.pending = self.pending[:-keep], self.pending[-keep:]
                    yield piece
                await self.more()

    async def head(self) -> bytes | None:
        """The header lines of the next part, None after the last."""
        while not (self.pending.startswith(b"--") or b"\r\n\r\n" in self.pending):
            if len(self.pending) > HEAD_LIMIT:
                raise HttpError(400, f"The head of a form part is over {HEAD_LIMIT} bytes")
            await self.more()
        if self.pending.startswith(b"--"):
            return None
        head, _, self.pending = self.pending.partition(b"\r\n\r\n")
        return head

    async def more(self) -> None:
        chunk = await anext(self.chunks, None)
        if chunk is None:
            raise HttpError(400, "The multipart form ends before its last boundary")
        self.pending += chunk


def parse_head(head: bytes) -> Part:
    for line in head.decode("utf-8", "surrogateescape").split("\r\n"):
        field, _, value = line.partition(":")
        if field.strip().lower() == "content-disposition":
            named = {key.lower(): ESCAPE.sub(unescape, text) for key, text in PARAMETER.findall(value)}
            return Part(named.get("name", ""), named.get("filename"))
    return Part("", None)


def unescape(found: re.Match[str]) -> str:
    return found[1] if found[1] else chr(int(found[2], 16))
