"""The server's front door: decides for each connection's request who may pass and where it goes.

Control plane calls are answered here; everything else is relayed as raw bytes to the sandbox's guest, one request per
connection, after its key, token or signature was checked and the secrets were taken out of its head.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import re
import socket
import time
from collections.abc import Iterable

from . import control
from .config import Config
from .guest.wire import READ_SIZE, Connection, HttpError, Reply, Request, Router
from .sandboxes import Sandbox, Sandboxes

ENVD, INTERPRETER = 49983, 49999
ENVD_PATHS = re.compile(r"^/(process\.Process|filesystem\.Filesystem)/\w+$|^/files$|^/health$")
INTERPRETER_PATHS = re.compile(r"^/(execute|contexts|health)(/|$)")
PORT_HOST = re.compile(r"^(\d{1,5})-(i[a-z0-9]{19})\.(.+)$")
SECRETS = {"x-api-key", "x-access-token", "e2b-traffic-access-token", "e2b-sandbox-id", "e2b-sandbox-port"}
HOP = {"connection", "keep-alive", "proxy-connection"}
MAX_CONNECTIONS = 512


class Edge:
    def __init__(self, config: Config, sandboxes: Sandboxes):
        self.config, self.sandboxes = config, sandboxes
        self.control = Router()
        self.port = config.port
        self.open: set[asyncio.Task] = set()  # also keeps the tasks alive, which asyncio itself does not
        control.routes(self.control, sandboxes, lambda: f"localhost:{self.port}")

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self.open) >= MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.current_task()
        assert task
        self.open.add(task)
        task.add_done_callback(self.open.discard)
        with contextlib.suppress(asyncio.CancelledError):  # the server leaves; asyncio would complain of it in the log
            await Connection(reader, writer).serve(self.handle)

    async def handle(self, request: Request) -> Reply | None:
        named = self.guard_host(request)
        if named:
            return await self.to_named_port(request, *named)
        port = request.headers.get("e2b-sandbox-port", "")
        sandbox_id = request.headers.get("e2b-sandbox-id", "")
        if sandbox_id:
            return await self.to_sandbox(request, sandbox_id, port)
        if request.path == "/files" and "signature" in request.query:
            return await self.relay(request, self.signed(request), ENVD)
        if request.path == "/health" and request.method == "GET":
            return Reply(204)
        self.demand(request.headers.get("x-api-key", ""), self.config.key, "The API key is missing or wrong")
        return await self.control(request)

    # -- who may pass ------------------------------------------------------------------------------------------------

    def guard_host(self, request: Request) -> tuple[int, str] | None:
        """Refuse names that are not ours, so that no web page can reach us by rebinding its own. A host of the form
        `{port}-{id}.{name}` is a sandbox's port."""
        host = request.headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        name = name.strip("[]").lower()
        if found := PORT_HOST.match(name):
            port, sandbox_id, name = int(found[1]), found[2], found[3]
        if name not in ("localhost", "127.0.0.1", "::1", self.config.host.lower()) and not self.is_address(name):
            raise HttpError(421, f"This server does not answer to the name '{name}'")
        return (port, sandbox_id) if found else None

    def is_address(self, name: str) -> bool:
        """A server bound to every address answers to any literal address: rebinding needs a name."""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.config.host in ("0.0.0.0", "::")

    @staticmethod
    def demand(given: str, expected: str, otherwise: str) -> None:
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise HttpError(401, otherwise)

    def signed(self, request: Request) -> Sandbox:
        """The sandbox whose token made the signature of a `/files` URL; the URL itself names none."""
        query = request.query
        operation = "read" if request.method == "GET" else "write"
        parts = [query.get("path", ""), operation, query.get("username", "")]
        expiration = query.get("signature_expiration")
        for sandbox in self.candidates():
            raw = ":".join([*parts, sandbox.record.access_token, *([expiration] if expiration else [])])
            digest = base64.b64encode(hashlib.sha256(raw.encode()).digest()).rstrip(b"=").decode()
            if hmac.compare_digest(query["signature"].encode(), f"v1_{digest}".encode()):
                if expiration and (not expiration.isdigit() or int(expiration) < time.time()):
                    raise HttpError(401, "The signature has expired")
                return sandbox
        raise HttpError(401, "The signature fits no sandbox of this server")

    def candidates(self) -> Iterable[Sandbox]:
        return list(self.sandboxes.all.values())

    # -- where it goes -----------------------------------------------------------------------------------------------

    async def to_sandbox(self, request: Request, sandbox_id: str, port_text: str) -> Reply | None:
        port = self.port_of(request, port_text)
        sandbox = self.sandboxes.all.get(sandbox_id)
        if sandbox is None or not sandbox.running:
            raise gone(sandbox_id)
        return await self.to_port(request, sandbox, port)

    def port_of(self, request: Request, text: str) -> int:
        if text:
            if not text.isdigit() or not 0 < int(text) < 65536:
                raise HttpError(400, f"'{text}' is not a port")
            return int(text)
        if INTERPRETER_PATHS.match(request.path) and request.path != "/health":
            return INTERPRETER
        return ENVD

    async def to_named_port(self, request: Request, port: int, sandbox_id: str) -> Reply | None:
        sandbox = self.sandboxes.all.get(sandbox_id)
        if sandbox is None or not sandbox.running:
            raise gone(sandbox_id)
        if not 0 < port < 65536:
            raise HttpError(400, f"{port} is not a port")
        return await self.to_port(request, sandbox, port)

    async def to_port(self, request: Request, sandbox: Sandbox, port: int) -> Reply | None:
        record = sandbox.record
        if port == ENVD:
            if not ENVD_PATHS.match(request.path):
                raise HttpError(404, f"There is no {request.path} in a sandbox")
            if request.path == "/files" and "signature" in request.query:
                if self.signed(request) is not sandbox:
                    raise HttpError(401, "The signature belongs to another sandbox")
            elif request.path != "/health":
                token = request.headers.get("x-access-token", "")
                self.demand(token, record.access_token, "The sandbox's access token is missing or wrong")
        elif port == INTERPRETER or not record.public_ports:
            if port == INTERPRETER and not INTERPRETER_PATHS.match(request.path):
                raise HttpError(404, f"There is no {request.path} in a sandbox")
            token = request.headers.get("e2b-traffic-access-token", "")
            self.demand(token, record.traffic_token, "The sandbox's traffic token is missing or wrong")
        return await self.relay(request, sandbox, port)

    async def relay(self, request: Request, sandbox: Sandbox, port: int) -> Reply | None:
        """Hand the connection over. From here on it belongs to this one sandbox, until either side closes it."""
        client, rest = await request.connection.take_over()  # before any other wait: nobody else may read from it
        try:
            up = await self.sandboxes.dial(sandbox, port)
        except OSError:
            with client:
                await say(client, as_bytes(gone(sandbox.record.id)))
            return None
        self.sandboxes.last_used = time.monotonic()
        with client, up:
            await join(client, up, head_for_guest(request, port) + rest, as_bytes(gone(sandbox.record.id)))
        return None


def head_for_guest(request: Request, port: int) -> bytes:
    """The request's head without secrets. It asks for one answer per connection: this request was judged and the
    bytes after it were not; only a program's own port may upgrade the protocol."""
    upgrade = port not in (ENVD, INTERPRETER) and "upgrade" in request.headers.get("connection", "").lower()
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    for name, value in request.raw_headers:
        if name not in SECRETS and (name not in HOP or (upgrade and name == "connection")):
            lines.append(f"{name}: {value}")
    if not upgrade:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def join(client: socket.socket, up: socket.socket, head: bytes, otherwise: bytes) -> None:
    """Bytes both ways between bare sockets, until the guest has said all it had to say; `otherwise` in its place when
    it died before its first word."""
    sending = asyncio.ensure_future(upload(client, up, head))
    try:
        if not await pump(up, client):
            await say(client, otherwise)
    finally:
        sending.cancel()
        await asyncio.wait([sending])  # it must not wait for a descriptor that by then is closed, or another's


async def pump(source: socket.socket, target: socket.socket) -> int:
    """Bytes from one side to the other with back-pressure, until either side ends; and how many there were."""
    loop, count = asyncio.get_running_loop(), 0
    buffer = memoryview(bytearray(READ_SIZE))
    with contextlib.suppress(OSError):
        while size := await loop.sock_recv_into(source, buffer):
            count += size
            await loop.sock_sendall(target, buffer[:size])
    return count


async def upload(client: socket.socket, up: socket.socket, head: bytes) -> None:
    """The client's side. Its end is passed on: so the guest learns that nobody waits any more."""
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(up, head)
        await pump(client, up)
        up.shutdown(socket.SHUT_WR)


async def say(client: socket.socket, words: bytes) -> None:
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(client, words)


def as_bytes(error: HttpError) -> bytes:
    reply = error.reply()
    assert isinstance(reply.body, bytes)
    head = f"HTTP/1.1 {reply.status} \r\ncontent-type: application/json\r\ncontent-length: {len(reply.body)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + reply.body


def gone(sandbox_id: str) -> HttpError:
    """The words by which the SDKs recognise a sandbox that is no more."""
    return HttpError(502, "The sandbox was not found", sandboxId=sandbox_id)
