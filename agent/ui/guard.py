"""In front of everything: who may knock at all. Host names, origins, sign-in, which of Gradio's paths exist, headers.

Default deny: a path is refused unless it is ours, or one of the few that Gradio's frame is made of. Gradio's event
functions, uploads, files, tokens and streams are not among them, so nothing of it can be called from outside. Our own
routes ask again who is there; the guard is the second lock, not the only one.
"""

import base64
import hashlib
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FRAME = re.compile(
    r"/|/(?:assets|svelte|static/(?:fonts|img|js))/[\w./@-]+|/theme\.css|/config/?|/favicon\.ico|/manifest\.json"
)
START = "/gradio_api/startup-events"  # Gradio asks itself, once, before it calls itself started
OPEN = re.compile(r"/login(?:/[\w-]+)?|/logout|/x/static/[\w./-]+|/favicon\.ico")
SCRIPT = re.compile(rb"<script\b([^>]*)>(.*?)</script>", re.DOTALL | re.IGNORECASE)
POLICY = (
    "default-src 'self'; script-src {script}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors {ancestors}"
)


@dataclass(frozen=True)
class Rules:
    """`hosts` are the names this server answers to, besides addresses and loopback names. `proxies` are the addresses
    whose word about the client is believed. `user_header` is what only they may set."""

    hosts: frozenset[str] = frozenset()
    proxies: frozenset[str] = frozenset()
    user_header: str = ""
    ancestors: str = "'none'"
    any_address: bool = False  # reached by its address, from other machines


class Guard:
    """`who` tells whether somebody is signed in. ASGI: http and websocket."""

    def __init__(self, app: App, rules: Rules, who: Callable[[HTTPConnection], Any]):
        self.app, self.rules, self.who = app, rules, who
        self.started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        self.believe(scope)
        refused = self.refusal(scope)
        if refused is None:
            return await self.app(scope, receive, self.dressed(scope, send))
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": ""})
        await refused(scope, receive, self.dressed(scope, send))

    # -- who knocks --------------------------------------------------------------------------------------------------

    def believe(self, scope: Scope) -> None:
        """Keep only what may be believed of what a request says about itself."""
        headers = Headers(scope=scope)
        peer = (scope.get("client") or ("",))[0]
        trusted = peer in self.rules.proxies
        if trusted:
            if headers.get("x-forwarded-proto", "").split(",")[0].strip() == "https":
                scope["scheme"] = "wss" if scope["type"] == "websocket" else "https"
            if told := headers.get("x-forwarded-for", "").rpartition(",")[2].strip():
                scope["client"] = (told, 0)
        drop = {b"x-forwarded-host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-prefix", b"forwarded"}
        if self.rules.user_header and not trusted:
            drop.add(self.rules.user_header.lower().encode())
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() not in drop]

    def refusal(self, scope: Scope) -> Response | None:
        """Why not; None lets it pass."""
        headers, path, browser = Headers(scope=scope), scope["path"], scope["type"] == "http"
        host = headers.get("host", "")
        if not self.known_host(host):
            name = host.rpartition(":")[0] or host
            return PlainTextResponse(f"This server is not called {name!r}. Start it with --allow-host NAME.", 421)
        if (origin := headers.get("origin")) and not self.own_origin(origin, host):
            return JSONResponse({"error": "The request came from another site. Open the page itself."}, 403)
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return JSONResponse({"error": "The request came from another site. Open the page itself."}, 403)
        if path == START:
            return None if not self.started else PlainTextResponse("Not found.", 404)
        if OPEN.fullmatch(path):
            return None
        ours = path.startswith("/x/")
        if not ours and not (browser and FRAME.fullmatch(path) and scope["method"] in ("GET", "HEAD")):
            return PlainTextResponse("Not found.", 404)
        if self.who(HTTPConnection(scope)) is None:
            if path == "/":
                return RedirectResponse("/login", 303)
            return JSONResponse({"error": "You are not signed in. Sign in and try again."}, 401)
        return None

    def known_host(self, host: str) -> bool:
        """A name that is not ours may be one that an attacker points here (DNS rebinding); an address cannot be."""
        name = host_name(host)
        if name in LOOPBACK or name in self.rules.hosts:
            return True
        return self.rules.any_address and is_address(name)

    def own_origin(self, origin: str, host: str) -> bool:
        try:
            told = urlsplit(origin)
        except ValueError:
            return False
        if told.scheme not in ("http", "https"):
            return False
        return told.netloc.lower() == host.lower() or (told.hostname or "") in self.rules.hosts

    # -- what leaves -------------------------------------------------------------------------------------------------

    def dressed(self, scope: Scope, send: Send) -> Send:
        """Security headers on each answer. The scripts that stand in Gradio's own page are allowed by their hashes: no
        text of a model or a person is ever in that page."""
        if scope["type"] != "http":
            return send
        held: list[Any] = []
        page = scope["path"] == "/"

        async def out(message: Any) -> None:
            if message["type"] == "http.response.start":
                if page and message["status"] == 200:
                    held.append(message)
                    return
                dress(message, POLICY.format(script="'self'", ancestors=self.rules.ancestors))
            elif held:
                held.append(message)
                if message.get("more_body"):
                    return
                body = b"".join(part.get("body", b"") for part in held[1:])
                policy = POLICY.format(script=" ".join(["'self'", *hashes(body)]), ancestors=self.rules.ancestors)
                dress(held[0], policy)
                MutableHeaders(scope=held[0])["cache-control"] = "no-store"
                await send(held[0])
                message = {"type": "http.response.body", "body": body}
                held.clear()
            await send(message)

        return out


def dress(start: Any, policy: str) -> None:
    headers = MutableHeaders(scope=start)
    headers.setdefault("content-security-policy", policy)
    headers["x-content-type-options"] = "nosniff"
    headers["referrer-policy"] = "same-origin"
    headers["cross-origin-resource-policy"] = "same-origin"
    headers["permissions-policy"] = "camera=(), microphone=(), geolocation=()"


def hashes(page: bytes) -> Iterable[str]:
    for attributes, text in SCRIPT.findall(page):
        if b"src=" not in attributes:
            yield f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"


def host_name(host: str) -> str:
    """Without the port and the brackets of an address, in small letters."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
