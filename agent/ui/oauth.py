"""The way in with a Hugging Face account, as a Space offers it: OpenID Connect, code flow with PKCE.

The person's token stays on the server (agent/ui/logins.py); the cookie is a random number. A sign-in that was not begun
in the same browser is refused. Who signed in may do what their own account may; nobody works with the Space's token.
"""

import base64
import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from agent.errors import UserError
from agent.ui.login import COOKIE, admitted, left, shown
from agent.ui.logins import LASTS, Logins
from agent.ui.people import Person

STATE = "modelsmith-state"
BEGUN_FOR = 600.0  # seconds a sign-in may take
MOST_BEGUN = 1_000
BUTTON = """<p>Sign in with your Hugging Face account. Sessions, files and runs are yours alone, and what you start runs
with your own rights.</p><p><a class="button" href="/login/huggingface" target="_blank" rel="noopener">Sign in with
Hugging Face</a></p>"""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provider:
    """Who vouches for people, and what it gave this Space to ask with."""

    url: str
    client_id: str
    client_secret: SecretStr
    scopes: str
    redirect: str  # the callback's address, as it was registered

    @classmethod
    def from_environment(cls) -> "Provider":
        wanted = ("OPENID_PROVIDER_URL", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "SPACE_HOST")
        told = {name: os.environ.get(name, "") for name in wanted}
        missing = [name for name, value in told.items() if not value]
        if missing:
            raise UserError(
                f"This Space cannot tell people apart: {missing[0]} is not set. Write `hf_oauth: true` into the "
                "metadata at the top of its README.md."
            )
        host = told["SPACE_HOST"].split(",")[0].strip()
        scheme = "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
        return cls(
            told["OPENID_PROVIDER_URL"].rstrip("/"),
            told["OAUTH_CLIENT_ID"],
            SecretStr(told["OAUTH_CLIENT_SECRET"]),
            told["OAUTH_SCOPES"],
            f"{scheme}://{host}/login/callback",
        )

    @cached_property
    def places(self) -> dict[str, str]:
        found = httpx.get(f"{self.url}/.well-known/openid-configuration", timeout=10, follow_redirects=True)
        found.raise_for_status()
        return found.json()

    def person(self, code: str, verifier: str) -> tuple[dict[str, Any], str, float]:
        """What the provider says of who signed in, their token, and for how long it is good."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        form |= {"redirect_uri": self.redirect, "client_id": self.client_id}
        auth = (self.client_id, self.client_secret.get_secret_value())
        told = httpx.post(self.places["token_endpoint"], data=form, auth=auth, timeout=10)
        told.raise_for_status()
        token = str(told.json()["access_token"])
        lasts = float(told.json().get("expires_in") or 8 * 3600)
        about = httpx.get(self.places["userinfo_endpoint"], headers={"authorization": f"Bearer {token}"}, timeout=10)
        about.raise_for_status()
        return about.json(), token, lasts


@dataclass
class Begun:
    verifier: str
    at: float = field(default_factory=time.monotonic)


class Space:
    """`people`: only these may come in; None: whoever has an account."""

    local, space, can_sign_out = False, True, True

    def __init__(self, provider: Provider, logins: Logins, people: list[str] | None = None):
        self.provider, self.logins, self.people = provider, logins, people
        self.lock = threading.Lock()
        self.begun: dict[str, Begun] = {}

    def who(self, connection: HTTPConnection) -> Person | None:
        token = connection.cookies.get(COOKIE, "")
        return self.allowed(self.logins.find(token)) if token else None

    def known(self, name: str) -> Person | None:
        return self.allowed(self.logins.known(name))

    def allowed(self, person: Person | None) -> Person | None:
        return person if person and (self.people is None or person.shown in self.people) else None

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/login", self.page, methods=["GET"]),
            Route("/login/huggingface", self.begin, methods=["GET"]),
            Route("/login/callback", self.enter, methods=["GET"]),
            Route("/logout", self.leave, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        return RedirectResponse("/", 303) if self.who(request) else shown(BUTTON)

    async def begin(self, request: Request) -> Response:
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        with self.lock:
            now = time.monotonic()
            self.begun = {name: one for name, one in self.begun.items() if now - one.at < BEGUN_FOR}
            while len(self.begun) >= MOST_BEGUN:
                del self.begun[next(iter(self.begun))]
            self.begun[state] = Begun(verifier)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {"response_type": "code", "client_id": self.provider.client_id, "scope": self.provider.scopes}
        query |= {"redirect_uri": self.provider.redirect, "state": state}
        query |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        try:
            places = await run_in_threadpool(lambda: self.provider.places)
        except (httpx.HTTPError, ValueError) as error:
            return self.failed(error)
        answer = RedirectResponse(f"{places['authorization_endpoint']}?{urlencode(query)}", 303)
        answer.set_cookie(
            STATE, state, max_age=int(BEGUN_FOR), httponly=True, secure=True, samesite="lax", path="/login"
        )
        return answer

    async def enter(self, request: Request) -> Response:
        state, code = request.query_params.get("state", ""), request.query_params.get("code", "")
        if not code or not hmac.compare_digest(state.encode(), request.cookies.get(STATE, "").encode()):
            return shown(BUTTON, "That sign-in was not begun in this browser, or took too long. Try again.", 400)
        with self.lock:
            begun = self.begun.pop(state, None)
        if begun is None or time.monotonic() - begun.at > BEGUN_FOR:
            return shown(BUTTON, "That sign-in was not begun in this browser, or took too long. Try again.", 400)
        try:
            about, token, lasts = await run_in_threadpool(self.provider.person, code, begun.verifier)
            person = Person(f"hf:{about['sub']}", str(about["preferred_username"]), SecretStr(token))
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            return self.failed(error)
        if self.allowed(person) is None:
            return shown("", f"{person.shown} may not use this Space. Ask its owner to add you, or duplicate it.", 403)
        lasts = min(lasts, LASTS)
        return admitted(request, self.logins.enter(person, lasts), lasts, embedded=True)

    def failed(self, error: Exception) -> Response:
        log.warning("a sign-in failed: %s", type(error).__name__)  # its text may hold the code or the token
        where = escape(self.provider.url.partition("://")[2])
        return shown(BUTTON, f"{where} did not answer as expected. Try again in a moment.", 502)

    async def leave(self, request: Request) -> Response:
        return left(request, self.logins)
