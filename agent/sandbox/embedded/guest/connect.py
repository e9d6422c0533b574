"""The Connect protocol as the E2B SDKs speak it: JSON only, unary calls and server or client streams.

A service is an object with one async method per RPC, registered under its path. Unary methods return a dict; server
streams are async generators of dicts; an `RpcError` becomes the protocol's own error. Binary protobuf is not spoken.
"""

import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from .wire import HttpError, Reply, Request, Router

FRAME_LIMIT = 4 * 1024 * 1024
END_OF_STREAM = 2
STATUS = {
    "canceled": 499,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "unauthenticated": 401,
}


class RpcError(Exception):
    """A Connect error: one of the codes above and a sentence."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message

    def json(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message}


def frame(value: Any, flags: int = 0) -> bytes:
    data = json.dumps(value, separators=(",", ":")).encode()
    return struct.pack(">BI", flags, len(data)) + data


async def frames(request: Request) -> AsyncIterator[dict[str, Any]]:
    """The messages of a streamed request. A frame that is too large or broken ends the call."""
    pending = bytearray()
    async for part in request.body():
        pending += part
        while len(pending) >= 5:
            flags, size = struct.unpack_from(">BI", pending)
            if size > FRAME_LIMIT:
                raise RpcError("resource_exhausted", f"a message is over {FRAME_LIMIT} bytes")
            if flags & 1:
                raise RpcError("unimplemented", "compressed messages are not spoken here")
            if len(pending) < 5 + size:
                break
            payload = bytes(pending[5 : 5 + size])
            del pending[: 5 + size]
            if flags & END_OF_STREAM:
                return
            yield decode(payload)
    if pending:
        raise RpcError("invalid_argument", "the request ended in the middle of a message")


def decode(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload or b"{}")
    except ValueError as error:
        raise RpcError("invalid_argument", f"a message is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RpcError("invalid_argument", "a message is not a JSON object")
    return value


def timeout_of(request: Request) -> float | None:
    """The caller's deadline in seconds, or None for no limit."""
    text = request.headers.get("connect-timeout-ms", "")
    return int(text) / 1000 if text.isdigit() and int(text) > 0 else None


def add_unary(router: Router, path: str, method: Callable[[dict, Request], Awaitable[dict]]) -> None:
    async def handle(request: Request) -> Reply:
        try:
            return Reply.json(await method(decode(await read_limited(request)), request))
        except RpcError as error:
            return Reply.json(error.json(), STATUS[error.code])

    router.add("POST", path, handle)


def add_server_stream(router: Router, path: str, method: Callable[[dict, Request], AsyncIterator[dict]]) -> None:
    async def handle(request: Request) -> Reply:
        # Read before the reply's head goes out: a client that sees a reply first may never send its message.
        try:
            message: dict | RpcError = ([value async for value in frames(request)] or [{}])[0]
        except RpcError as error:
            message = error
        return Reply(200, {"content-type": "application/connect+json"}, stream(message, request))

    async def stream(message: dict | RpcError, request: Request) -> AsyncIterator[bytes]:
        try:
            if isinstance(message, RpcError):
                raise message
            events = method(message, request)
            try:
                async for event in events:
                    yield frame(event)
            finally:
                await events.aclose()  # type: ignore[attr-defined]
            yield frame({}, END_OF_STREAM)
        except RpcError as error:
            yield frame({"error": error.json()}, END_OF_STREAM)

    router.add("POST", path, handle)


def add_client_stream(
    router: Router, path: str, method: Callable[[AsyncIterator[dict], Request], Awaitable[dict]]
) -> None:
    async def handle(request: Request) -> Reply:
        try:
            body = frame(await method(frames(request), request)) + frame({}, END_OF_STREAM)
        except RpcError as error:
            body = frame({"error": error.json()}, END_OF_STREAM)
        return Reply(200, {"content-type": "application/connect+json"}, body)

    router.add("POST", path, handle)


async def read_limited(request: Request) -> bytes:
    try:
        return await request.read(FRAME_LIMIT)
    except HttpError as error:
        raise RpcError("resource_exhausted", error.message) from None
