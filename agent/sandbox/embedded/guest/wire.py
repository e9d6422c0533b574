"""HTTP/1.1 over asyncio streams, parsed by h11: the one server loop of the host's edge and of the guest.

It promises bounded heads, head deadlines, streamed bodies both ways, back-pressure, and that a handler is cancelled
as soon as its client has gone. It does not do TLS, HTTP/2 or pipelining.
"""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import h11

HEAD_LIMIT = 64 * 1024
JSON_LIMIT = 64 * 1024 * 1024
READ_SIZE = 256 * 1024


class HttpError(Exception):
    """An answer that ends the request: raised anywhere below a handler."""

    def __init__(self, status: int, message: str, **fields: Any):
        super().__init__(message)
        self.status, self.message, self.fields = status, message, fields

    def reply(self) -> "Reply":
        return Reply.json({"code": self.status, "message": self.message, **self.fields}, self.status)


@dataclass
class Reply:
    """A status, headers and a body that is bytes or an async iterator of bytes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> "Reply":
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, {"content-type": "application/json", **named}, json.dumps(value).encode())

    @classmethod
    def text(cls, value: str, status: int = 200) -> "Reply":
        return cls(status, {"content-type": "text/plain; charset=utf-8"}, value.encode())


class Request:
    """One request: its head at once, its body as it comes."""

    def __init__(self, connection: "Connection", event: h11.Request):
        self.connection = connection
        self.method = event.method.decode("ascii")
        self.target = event.target.decode("latin-1")
        raw_path, _, raw_query = self.target.partition("?")
        self.path = unquote(raw_path)
        self.raw_query = raw_query
        self.query: dict[str, str] = dict(parse_qsl(raw_query, keep_blank_values=True))
        self.raw_headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
        self.headers: dict[str, str] = dict(self.raw_headers)

    async def body(self) -> AsyncIterator[bytes]:
        """The body's chunks, in order; ends the request when the client goes before the end."""
        while True:
            event = await self.connection.next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise ConnectionResetError("the client left in the middle of a request")

    async def read(self, limit: int = JSON_LIMIT) -> bytes:
        parts, size = [], 0
        async for part in self.body():
            size += len(part)
            if size > limit:
                raise HttpError(413, f"The request body is over {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    async def json(self, limit: int = JSON_LIMIT) -> Any:
        data = await self.read(limit)
        try:
            return json.loads(data) if data else {}
        except ValueError as error:
            raise HttpError(400, f"The request body is not JSON: {error}") from None


log = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable["Reply | None"]]


class Connection:
    """One client connection. `serve` answers its requests until it closes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head_timeout: float = 15.0):
        self.reader, self.writer, self.head_timeout = reader, writer, head_timeout
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self.taken = False
        self.complete = asyncio.Event()

    async def next_event(self) -> Any:
        while True:
            if self.http.they_are_waiting_for_100_continue:
                self.writer.write(self.http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            event = self.http.next_event()
            if isinstance(event, h11.EndOfMessage):
                self.complete.set()
            if event is not h11.NEED_DATA:
                return event
            self.http.receive_data(await self.reader.read(READ_SIZE))

    async def take_over(self) -> tuple[socket.socket, bytes]:
        """Hand the bare socket to the handler, which closes it, with what was read past the head. Bare, because each
        layer of streams copies every byte."""
        self.taken = True
        self.complete.set()
        self.reader.feed_eof()  # so that reading ends with what is there, without waiting
        rest = bytes(self.http.trailing_data[0]) + await self.reader.read()
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        try:
            transport.set_write_buffer_limits(0)
            await self.writer.drain()  # an earlier answer may still be on its way
            if transport.is_closing():
                raise ConnectionResetError("the client left")
            bare = self.writer.get_extra_info("socket").dup()
        finally:
            transport.close()
        bare.setblocking(False)
        return bare, rest

    async def serve(self, handler: Handler) -> None:
        try:
            while not self.taken:
                try:
                    event = await asyncio.wait_for(self.next_event(), self.head_timeout)
                except h11.RemoteProtocolError as error:
                    await self.send(HttpError(error.error_status_hint, str(error)).reply(), close=True)
                    return
                if not isinstance(event, h11.Request):
                    return
                request = Request(self, event)
                if not {"content-length", "transfer-encoding"} & request.headers.keys():
                    await self.next_event()
                await self.answer(handler, request)
                if self.taken or self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
                    return
                self.http.start_next_cycle()
                self.complete.clear()
        except (ConnectionError, TimeoutError, h11.LocalProtocolError):
            return
        finally:
            if not self.taken:
                self.writer.close()

    async def answer(self, handler: Handler, request: Request) -> None:
        work = asyncio.ensure_future(self.run(handler, request))
        watch = asyncio.ensure_future(self.client_gone(work))
        try:
            await asyncio.wait([work])
            work.result()
        except asyncio.CancelledError:
            work.cancel()
            if not watch.done():
                raise
            raise ConnectionResetError("the client left") from None
        finally:
            watch.cancel()

    async def run(self, handler: Handler, request: Request) -> None:
        try:
            reply = await handler(request)
        except HttpError as error:
            reply = error.reply()
        except h11.RemoteProtocolError as error:
            reply = HttpError(error.error_status_hint, str(error)).reply()
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            reply = HttpError(500, "The server failed on this request; its log says why").reply()
        if reply is not None and not self.taken:
            await self.send(reply)

    async def client_gone(self, work: asyncio.Future[None]) -> None:
        """Cancel the work once the client has closed its side. Reading starts only when the request is complete."""
        await self.complete.wait()
        if self.taken:
            return
        try:
            data = await self.reader.read(1)
        except ConnectionError:
            data = b""  # a reset is a departure too
        if data:
            self.http.receive_data(data)
        else:
            work.cancel()

    async def send(self, reply: Reply, close: bool = False) -> None:
        headers = dict(reply.headers)
        body = reply.body
        if isinstance(body, bytes):
            if reply.status not in (204, 304):
                headers["content-length"] = str(len(body))
        elif "content-length" not in headers:
            headers["transfer-encoding"] = "chunked"
        if close or self.http.their_state is not h11.DONE:
            headers["connection"] = "close"
        head = h11.Response(status_code=reply.status, headers=[(k, v) for k, v in headers.items()])
        self.writer.write(self.http.send(head) or b"")
        if isinstance(body, bytes):
            if body:
                self.writer.write(self.http.send(h11.Data(data=body)) or b"")
        else:
            try:
                async for part in body:
                    if part:
                        for piece in self.http.send_with_data_passthrough(h11.Data(data=part)) or []:
                            self.writer.write(piece)
                        await self.writer.drain()
            finally:
                # A generator cut short by the client's leaving must clean up now, not when it is collected.
                if close_body := getattr(body, "aclose", None):
                    await close_body()
        self.writer.write(self.http.send(h11.EndOfMessage()) or b"")
        await self.writer.drain()


class Router:
    """Method and path pattern to handler; `{name}` in a pattern matches one path segment."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, list[str], Callable[..., Awaitable[Reply | None]]]] = []

    def add(self, method: str, pattern: str, handler: Callable[..., Awaitable[Reply | None]]) -> None:
        self.routes.append((method, pattern.strip("/").split("/"), handler))

    async def __call__(self, request: Request) -> Reply | None:
        parts, other_method = request.path.strip("/").split("/"), False
        for method, pattern, handler in self.routes:
            if len(pattern) != len(parts):
                continue
            named = {p[1:-1]: part for p, part in zip(pattern, parts, strict=True) if p.startswith("{")}
            if all(p.startswith("{") or p == part for p, part in zip(pattern, parts, strict=True)):
                if method == request.method:
                    return await handler(request, **named)
                other_method = True
        if other_method:
            raise HttpError(405, f"{request.method} is not allowed on {request.path}")
        raise HttpError(404, f"There is no {request.method} {request.path}")
