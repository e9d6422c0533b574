"""The way in with a name and a password: one page, one form, a cookie; slow for whoever guesses.

After five wrong tries from one address or for one name each further one has to wait, twice as long each time. An
unknown name takes as long as a wrong password and is told in the same words.
"""

import threading
import time
from html import escape
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from agent.ui import passwords
from agent.ui.logins import LASTS, Logins
from agent.ui.people import Person

COOKIE = "modelsmith"
FREE_TRIES = 5
LONGEST_WAIT = 900.0
FORGOTTEN = 3600.0  # seconds without a try after which the count begins anew
LARGEST_FORM = 8_192
AT_ONCE = threading.Semaphore(2)  # hashes: each takes 16 MB and a core


class Patience:
    """Counts failures by key and says how long to wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.failed: dict[str, tuple[int, float]] = {}

    def wait(self, *keys: str) -> float:
        """Seconds until the next try; the try that is let through counts as failed until it is known to be right."""
        now = time.monotonic()
        with self.lock:
            for key in [key for key, (_, at) in self.failed.items() if now - at > FORGOTTEN]:
                del self.failed[key]
            rest = max(self.rest(key, now) for key in keys)
            if rest <= 0:
                for key in keys:
                    self.failed[key] = self.failed.get(key, (0, 0.0))[0] + 1, now
            return rest

    def rest(self, key: str, now: float) -> float:
        count, at = self.failed.get(key, (0, 0.0))
        return 0.0 if count < FREE_TRIES else at + min(LONGEST_WAIT, 2.0 ** (count - FREE_TRIES)) - now

    def right(self, *keys: str) -> None:
        with self.lock:
            for key in keys:
                self.failed.pop(key, None)


class Passwords:
    """`people` maps names to hashes."""

    local, space, can_sign_out = False, False, True

    def __init__(self, people: dict[str, str], logins: Logins):
        self.people, self.logins, self.patience = people, logins, Patience()
        logins.keep_only(set(people))

    def who(self, connection: HTTPConnection) -> Person | None:
        token = connection.cookies.get(COOKIE, "")
        return self.logins.find(token) if token else None

    def known(self, name: str) -> Person | None:
        return Person(name, name) if name in self.people else None

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/login", self.page, methods=["GET"]),
            Route("/login", self.enter, methods=["POST"]),
            Route("/logout", self.leave, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        if self.who(request) is not None:
            return RedirectResponse("/", 303)
        return shown(FORM)

    async def enter(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_FORM:
                return shown(FORM, "That was too long.", 413)
        form = parse_qs(body.decode("utf-8", "replace"))
        name, password = form.get("name", [""])[0].strip(), form.get("password", [""])[0]
        keys = (f"from {request.client.host if request.client else ''}", f"as {name[:64]}")
        rest = self.patience.wait(*keys)
        if rest > 0:
            answer = shown(FORM, f"Too many wrong tries. Wait {rest:.0f} seconds and try again.", 429)
            answer.headers["retry-after"] = str(int(rest) + 1)
            return answer
        if not await run_in_threadpool(self.right, name, password):
            return shown(FORM, "Name or password is wrong. Try again.", 401)
        self.patience.right(*keys)
        return admitted(request, self.logins.enter(Person(name, name)))

    def right(self, name: str, password: str) -> bool:
        with AT_ONCE:
            fits = passwords.fits(password, self.people.get(name, passwords.NOBODY))
        return fits and name in self.people

    async def leave(self, request: Request) -> Response:
        return left(request, self.logins)


def admitted(request: Request, token: str, lasts: float = LASTS, embedded: bool = False) -> Response:
    """Into the page, with the cookie. `embedded`: the page stands in a frame of another site, as on a Space."""
    answer = RedirectResponse("/", 303)
    secure = embedded or request.url.scheme == "https"
    site = "none" if embedded else "lax"
    answer.set_cookie(COOKIE, token, max_age=int(lasts), httponly=True, secure=secure, samesite=site)  # type: ignore[arg-type]
    return answer


def left(request: Request, logins: Logins) -> Response:
    if token := request.cookies.get(COOKIE):
        logins.leave(token)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def shown(inner: str, told: str = "", status: int = 200) -> Response:
    note = f'<p role="alert">{escape(told)}</p>' if told else ""
    return HTMLResponse(PAGE.format(note=note, inner=inner), status, {"cache-control": "no-store"})


FORM = """<form method="post" action="/login">
<label>Name <input name="name" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button>Sign in</button></form>"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in · Modelsmith</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 Inter, system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 0;
  background: light-dark(#f7f7f5, #131518); color: light-dark(#1d2126, #e7e9ec); }}
main {{ width: min(22rem, 90vw); }} h1 {{ font-size: 1.4rem; }} form {{ display: grid; gap: .9rem; }}
label {{ display: grid; gap: .25rem; }}
input, button, .button {{ font: inherit; padding: .55rem .8rem; border-radius: .5rem;
  border: 1px solid light-dark(#8b9099, #5b636e); }}
input {{ background: light-dark(#fff, #0e1012); }}
button, .button {{ background: light-dark(#b5460f, #ff9357); color: light-dark(#fff, #1d1006); border: 0;
  cursor: pointer; text-decoration: none;
  display: inline-block; }}
[role=alert] {{ border-left: 3px solid #c33; padding-left: .7rem; }}
</style></head><body><main><h1>Modelsmith</h1>{note}{inner}</main></body></html>
"""
