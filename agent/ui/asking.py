"""What a route is made of: who asks, the JSON that came, one function that answers, and every error as words.

A handler is a plain function in a worker thread; it returns a value (sent as JSON), or a Response. Another owner's
session is as good as none. Bodies are JSON objects of bounded size; files come through agent/ui/uploads.py alone.
"""

import json
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent.errors import UserError
from agent.store import Claimed, StoreError
from agent.store import Session as Known
from agent.ui.live import Busy
from agent.ui.people import Person
from tools.context import ToolError

if TYPE_CHECKING:
    from agent.ui.server import Server

LARGEST_BODY = 4 * 1024 * 1024
log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that is not done, with its status and "what is wrong. what to do."."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status, self.text = status, text


@dataclass
class Ask:
    server: "Server"
    person: Person
    request: Request
    path: dict[str, str]
    query: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    def session(self) -> Known:
        return owned(self.server, self.person, self.path["id"])

    def text(self, name: str, most: int, default: str | None = None) -> str:
        """A text of the body."""
        value = self.body.get(name, default)
        if not isinstance(value, str):
            raise Refusal(422, f"'{name}' is missing or no text. Send it as text.")
        if len(value) > most:
            raise Refusal(413, f"'{name}' has {len(value):,} characters. At most {most:,} are taken.")
        return value

    def number(self, name: str, default: int = 0) -> int:
        """A whole number of the query, 0 or more."""
        told = self.query.get(name, str(default))
        if not (told.isascii() and told.isdigit() and len(told) < 16):
            raise Refusal(422, f"'{name}' is no number. Send 0 or more.")
        return int(told)


Handler = Callable[[Ask], Any]


def owned(server: "Server", person: Person, id: str) -> Known:
    """By its whole id: a beginning of one would let people look for those of others."""
    try:
        known = server.store.session(id, owner=person.name)
    except UserError:
        known = None
    if known is None or known.id != id:
        raise Refusal(404, "There is no such session. It may have been deleted.")
    return known


def route(server: "Server", path: str, **handlers: Handler) -> Route:
    """`handlers` by method, in small letters."""
    by_method = {method.upper(): handler for method, handler in handlers.items()}

    async def endpoint(request: Request) -> Response:
        return await answer(server, by_method[request.method if request.method != "HEAD" else "GET"], request)

    return Route(path, endpoint, methods=list(by_method))


async def answer(server: "Server", handler: Handler, request: Request) -> Response:
    try:
        person = server.door.who(request)
        if person is None:
            raise Refusal(401, "You are not signed in. Sign in and try again.")
        body = await read_body(request) if request.method in ("POST", "PUT", "PATCH") else {}
        ask = Ask(server, person, request, dict(request.path_params), dict(request.query_params), body)
        done = await run_in_threadpool(handler, ask)
        return done if isinstance(done, Response) else JSONResponse(done)
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception as error:
        return told(server, error)


def told(server: "Server", error: Exception) -> JSONResponse:
    """Any error as the page shows it; what nobody foresaw goes to the log and keeps its details there."""
    status, text = 500, "Something broke inside. The server's log has the details; try again."
    if isinstance(error, Refusal):
        status, text = error.status, error.text
    elif isinstance(error, Claimed | Busy):
        status, text = 409, str(error)
    elif isinstance(error, UserError | ToolError):
        status, text = 422, str(error)
    elif isinstance(error, StoreError) and error.kind == "gone":
        status, text = 404, "There is no such session. It may have been deleted."
    elif isinstance(error, StoreError | sqlite3.Error):
        status, text = 503, str(error)
        log.error("%s", error)
    else:
        log.exception("a request failed", exc_info=error)
    return JSONResponse({"error": server.store.redactor.text(text)}, status)


async def read_body(request: Request) -> dict[str, Any]:
    """An empty body counts as {}. Only application/json is read: a form of another site cannot send that."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_BODY:
            raise Refusal(413, f"The request is larger than {LARGEST_BODY:,} bytes. Send a file instead.")
        chunks.append(chunk)
    if not size:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "The body is not JSON. Send it as application/json.")
    try:
        body = json.loads(b"".join(chunks))
    except (ValueError, RecursionError):
        raise Refusal(422, "The body is no JSON. Send an object.") from None
    if not isinstance(body, dict):
        raise Refusal(422, "The body is no JSON object. Send an object.")
    return body
