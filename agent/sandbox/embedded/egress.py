"""The only way out of a sandbox: an HTTP proxy with an allow list on a unix socket, one per sandbox.

A name is looked up once, every answer is judged, and the connection goes to a judged address. CONNECT carries bytes the
proxy cannot see into; plain http is rewritten, one request a connection. Refusals are answered 403, kept and logged.
There is no way out but TCP on the ports of a rule, and no upstream proxy: the host itself must reach the net directly.
"""

import asyncio
import functools
import logging
import os
import re
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import h11

from .guest.relay import CHUNK, Tally, hang_up, join, last_words
from .rules import Address, Refused, Rule, Rules, canonical, split_authority

__all__ = ["Denial", "Egress", "Limits", "Rule", "Rules", "log_denial", "lookup"]

log = logging.getLogger(__name__)

HEAD_LIMIT = 64 * 1024
KEPT_DENIALS = 200
LOGGED_DENIALS = 500
NEXT_ADDRESS = 4.0
ABSOLUTE = re.compile(r"http://([^/?#]*)([^#]*)", re.IGNORECASE)
METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"}
HOP_BY_HOP = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class Denial:
    """One refused request."""

    sandbox: str
    host: str
    port: int
    reason: str
    at: float = field(default_factory=time.time, compare=False)

    def line(self) -> str:
        return f"{self.host}:{self.port} refused: {self.reason}"


@dataclass(frozen=True)
class Limits:
    """Seconds, and how many connections one sandbox may hold at a time."""

    head: float = 15.0
    connect: float = 15.0
    idle: float = 300.0
    connections: int = 64


class Failed(Exception):
    """An answer that is no refusal: the request was wrong, or the target could not be had."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def log_denial(denial: Denial) -> None:
    log.warning("sandbox %s: %s", denial.sandbox, denial.line())


@functools.cache
def lookup_threads() -> ThreadPoolExecutor:
    # Of their own, so that names which take long to fail hold up nobody but other lookups.
    return ThreadPoolExecutor(max_workers=8, thread_name_prefix="egress-lookup")


async def lookup(host: str, port: int) -> list[str]:
    """The addresses the machine's resolver gives for a name."""
    ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    answers = await asyncio.get_running_loop().run_in_executor(lookup_threads(), ask)
    return [str(answer[4][0]) for answer in answers]


class Egress:
    """One sandbox's proxy. `log` hears of each distinct refusal once, up to a bound: no loop inside can flood it."""

    def __init__(
        self,
        allow: Rules,
        log: Callable[[Denial], None] = log_denial,
        *,
        name: str = "",
        resolve: Resolve = lookup,
        limits: Limits = Limits(),
    ):
        self.allow, self.log, self.name, self.resolve, self.limits = allow, log, name, resolve, limits
        self.denials: deque[Denial] = deque(maxlen=KEPT_DENIALS)
        self.tally = Tally()
        self.logged: set[Denial] = set()
        self.serving: set[asyncio.Task[None]] = set()
        self.turned_away: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None
        self.path: Path | None = None

    async def listen(self, path: Path, uid: int | None = None) -> None:
        """Serve on a new unix socket at `path` that only `uid` (else our own user) can open."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), 0o600)  # before bind: the file is never there with a wider mode
            listener.bind(str(path))
            if uid is not None:
                os.chown(path, uid, -1, follow_symlinks=False)
        except BaseException:
            listener.close()
            raise
        self.path = path
        self.server = await asyncio.start_unix_server(self.accept, sock=listener)

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
        await asyncio.gather(*self.cut(), return_exceptions=True)
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def set_rules(self, allow: Rules) -> None:
        """Other rules from now on. Open connections end, since these rules might not have let them start."""
        self.allow = allow
        self.cut()

    def cut(self) -> set[asyncio.Task[None]]:
        tasks = self.serving | self.turned_away
        for task in tasks:
            task.cancel()
        return tasks

    async def accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        full = len(self.serving) >= self.limits.connections
        if full and len(self.turned_away) >= self.limits.connections:
            writer.transport.abort()
            return
        group = self.turned_away if full else self.serving
        group.add(task)
        try:
            if full:
                limit = self.limits.connections
                await last_words(reader, writer, answer(503, f"This sandbox has {limit} connections open. Close some"))
            else:
                await self.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # ended by close or set_rules; the stream server has no use for the cancellation
        except Exception:
            log.exception("sandbox %s: the proxy failed on a request", self.name)
            writer.transport.abort()
        finally:
            group.discard(task)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        try:
            request = await self.read_head(http, reader)
            if request is not None:
                carry = self.tunnel if request.method == b"CONNECT" else self.fetch
                await carry(http, request, reader, writer)
            await hang_up(writer)
        except Failed as error:
            begun = http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)  # then a cut is the only honest sign
            await (hang_up(writer) if begun else last_words(reader, writer, answer(error.status, str(error))))
        except OSError:
            await hang_up(writer)

    async def read_head(self, http: h11.Connection, reader: StreamReader) -> h11.Request | None:
        try:
            async with asyncio.timeout(self.limits.head):
                event = await next_event(http, reader)
        except TimeoutError:
            raise Failed(408, f"The request's head took over {self.limits.head:g} seconds") from None
        return event if isinstance(event, h11.Request) else None

    async def tunnel(
        self, http: h11.Connection, request: h11.Request, reader: StreamReader, writer: StreamWriter
    ) -> None:
        upstream = await self.reach(request.target.decode("ascii"), None)
        early = bytes(http.trailing_data[0])
        upstream[1].write(early)
        self.tally.sent += len(early)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join((reader, writer), upstream, self.limits.idle, self.tally)

    async def fetch(
        self, http: h11.Connection, request: h11.Request, reader: StreamReader, writer: StreamWriter
    ) -> None:
        if request.method not in METHODS:
            raise Failed(405, "The proxy takes CONNECT and the usual methods on http:// addresses")
        target = ABSOLUTE.fullmatch(request.target.decode("ascii"))
        if target is None:
            raise Failed(400, "This is a proxy: ask for a whole http:// address, or CONNECT for https")
        authority, path = target[1], target[2]
        up_reader, up_writer = await self.reach(authority, 80)
        headers = [(b"Host", authority.lower().encode()), *end_to_end(request), (b"Connection", b"close")]
        if any(name == b"transfer-encoding" for name, _ in request.headers):
            headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
            headers.append((b"Transfer-Encoding", b"chunked"))
        peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        head = h11.Request(method=request.method, target=path if path[:1] == "/" else f"/{path}", headers=headers)
        try:
            async with asyncio.timeout(self.limits.idle) as deadline:
                opening = peer.send(head) or b""
                up_writer.write(opening)
                self.tally.sent += len(opening)
                exchange = Exchange(http, reader, writer, peer, up_reader, up_writer, deadline, self.limits, self.tally)
                sending = asyncio.create_task(exchange.send_body())
                try:
                    await exchange.send_answer()
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        except TimeoutError:
            raise Failed(504, f"{authority} was silent for {self.limits.idle:g} seconds") from None
        finally:
            await hang_up(up_writer)

    async def reach(self, authority: str, default_port: int | None) -> tuple[StreamReader, StreamWriter]:
        """Judge, look up once, judge every answer, connect to one of them."""
        host, port = authority.rpartition("@")[2], default_port or 0
        try:
            host, port = split_authority(authority, default_port)
            name = canonical(host)
            rule = self.allow.judge(name, port)
            async with asyncio.timeout(self.limits.connect):
                addresses = await self.addresses(name, port)
                for address in addresses:
                    self.allow.judge_address(rule, name, port, address)
                return await connect(addresses, port)
        except Refused as error:
            self.deny(Denial(self.name, host[:255], port, str(error)))
            raise Failed(403, f"{host[:255]}:{port} is refused: {error}") from None
        except TimeoutError:
            raise Failed(504, f"{host}:{port} did not answer in {self.limits.connect:g} seconds") from None
        except OSError as error:
            raise Failed(502, f"{host}:{port} cannot be reached: {error.strerror or error}") from None

    async def addresses(self, name: str | Address, port: int) -> list[Address]:
        if not isinstance(name, str):
            return [name]
        found = [ip_address(text) for text in dict.fromkeys(await self.resolve(name, port))]
        if not found:
            raise OSError("the name has no address")
        return found

    def deny(self, denial: Denial) -> None:
        self.denials.append(denial)
        if denial not in self.logged and len(self.logged) < LOGGED_DENIALS:
            self.logged.add(denial)
            self.log(denial)


@dataclass
class Exchange:
    """One plain http request and its answer, parsed and written anew on both sides."""

    http: h11.Connection
    reader: StreamReader
    writer: StreamWriter
    peer: h11.Connection
    up_reader: StreamReader
    up_writer: StreamWriter
    deadline: asyncio.Timeout
    limits: Limits
    tally: Tally

    def alive(self) -> None:
        self.deadline.reschedule(asyncio.get_running_loop().time() + self.limits.idle)

    async def send_body(self) -> None:
        """A client that breaks off in its body ends the request; a target that stops reading may still answer."""
        try:
            while True:
                if self.http.they_are_waiting_for_100_continue:
                    early = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                    self.writer.write(self.http.send(early) or b"")
                event = await next_event(self.http, self.reader)
                if isinstance(event, h11.EndOfMessage):
                    event = h11.EndOfMessage()
                data = self.peer.send(event) or b""
                self.up_writer.write(data)
                await self.up_writer.drain()
                self.tally.sent += len(data)
                self.alive()
                if isinstance(event, h11.EndOfMessage):
                    return
        except Failed:
            self.up_writer.transport.abort()
        except (OSError, h11.LocalProtocolError):
            return

    async def send_answer(self) -> None:
        while True:
            try:
                event = await next_event(self.peer, self.up_reader)
            except Failed as error:
                raise Failed(502, f"The target's answer is not proper HTTP: {error}") from None
            except OSError as error:
                raise Failed(502, f"The target broke the connection: {error.strerror or error}") from None
            if isinstance(event, h11.InformationalResponse):
                continue
            if isinstance(event, h11.ConnectionClosed):
                raise Failed(502, "The target closed the connection without an answer")
            if isinstance(event, h11.Response):
                headers = [*end_to_end(event), (b"Connection", b"close")]
                event = h11.Response(status_code=event.status_code, reason=event.reason, headers=headers)
            elif isinstance(event, h11.EndOfMessage):
                event = h11.EndOfMessage()
            data = self.http.send(event) or b""
            self.writer.write(data)
            await self.writer.drain()
            self.tally.received += len(data)
            self.alive()
            if isinstance(event, h11.EndOfMessage):
                return


async def next_event(http: h11.Connection, reader: StreamReader) -> Any:
    try:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await reader.read(CHUNK))
    except h11.RemoteProtocolError as error:
        raise Failed(error.error_status_hint, str(error)) from None
    return event


def end_to_end(message: h11.Request | h11.Response) -> list[tuple[bytes, bytes]]:
    """The headers that are meant for the other end: none about a connection, a proxy or, since it is set anew, Host."""
    dropped = HOP_BY_HOP | {b"host", b"expect"}
    for name, value in message.headers:
        if name == b"connection":
            dropped |= {token.strip().lower() for token in value.split(b",")}
    return [
        (raw, value)
        for raw, value in message.headers.raw_items()
        if raw.lower() not in dropped and not raw.lower().startswith(b"proxy-")
    ]


async def connect(addresses: list[Address], port: int) -> tuple[StreamReader, StreamWriter]:
    """The first address that answers. They are addresses, so nothing is looked up again."""
    for address in addresses[:-1]:
        try:
            async with asyncio.timeout(NEXT_ADDRESS):
                return await asyncio.open_connection(str(address), port)
        except OSError:
            continue
    return await asyncio.open_connection(str(addresses[-1]), port)


def answer(status: int, text: str) -> bytes:
    """A one-line answer. Clients of CONNECT show only the status line, so the reason stands there too."""
    text = " ".join(text.split())
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 {status} {text}\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n"
    return f"{head}connection: close\r\n\r\n".encode("ascii", "replace") + body
