"""Asking the Hub: bounded in time, cancellable between requests, with errors a model or a person can act on.

The token comes from `here()` alone and goes to the Hub's endpoint alone; one that is not accepted is left out, and that
is said. Offline, nothing connects at all. Other users of huggingface_hub in this process keep their own patience: the
bounds hold only inside `ask` and `bounded`. A body that drips for ever is not noticed between two requests.
"""

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tools.context import ToolError, here

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

T = TypeVar("T")
SECONDS = 10.0  # for connecting and for each wait on an answer
SHORT_WAIT = 5.0  # a server's wish to wait that we follow once
NOT_ACCEPTED = "The Hub did not accept the token; this is public data, read without it."
HOOKING = threading.Lock()


class Missing(ToolError):
    """There is no such repository, or it is private."""


class NoEntry(ToolError):
    """The repository is there, the file or revision is not."""


class Unreachable(ToolError):
    """Nobody answered, or only half."""


class Busy(ToolError):
    """The server asks to come back later."""

    def __init__(self, message: str, wait: float):
        super().__init__(message)
        self.wait = wait


@dataclass
class Bounds:
    seconds: float
    sent: set[tuple[str, str, str]] = field(default_factory=set)


BOUNDS: ContextVar[Bounds | None] = ContextVar("bounds of Hub requests", default=None)


def endpoint() -> str:
    """Read at call time; the library's own constant is fixed when it is imported."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def offline() -> bool:
    from huggingface_hub import constants

    return here().offline or constants.is_offline_mode()


def ask(question: Callable[["HfApi"], T], signed: bool = True) -> tuple[T, str]:
    """The answer and, where there is something to say about how it was had, a note. `signed=False` sends no token."""
    from huggingface_hub.errors import HfHubHTTPError

    if offline():
        raise Unreachable("Offline: the Hub is not asked.")
    token = here().hf_token if signed else None
    try:
        return _answer(question, token), ""
    except HfHubHTTPError as error:
        if not token or error.response.status_code != 401:
            raise explained(error) from None
    try:
        return _answer(question, None), NOT_ACCEPTED
    except HfHubHTTPError as error:
        if type(error) is HfHubHTTPError and error.response.status_code == 401:
            raise ToolError(f"The Hub did not accept the token, and this needs one. {_new_token()}") from None
        raise explained(error) from None


def reach(online: Callable[["HfApi"], T], cached: Callable[[], T]) -> tuple[T, str]:
    """As `ask`; when the Hub cannot be reached, what the local cache knows, and a note that says so."""
    if offline():
        return cached(), "Offline: from the local cache."
    try:
        return ask(online)
    except Unreachable as problem:
        try:
            return cached(), f"{problem} From the local cache instead; it may be out of date."
        except ToolError:
            raise problem from None


def account() -> dict[str, Any]:
    """Whose the token is, as the Hub tells it."""

    def question(api: "HfApi") -> dict[str, Any]:
        if not api.token:
            raise ToolError(f"The Hub did not accept the token. {_new_token()}")
        return api.whoami()

    found, _ = ask(question)
    return found


def get_json(path: str, params: dict[str, Any], signed: bool = True) -> Callable[["HfApi"], Any]:
    """A question for what huggingface_hub has no method for."""

    def question(api: "HfApi") -> Any:
        with opened(f"{api.endpoint}{path}", token=api.token if signed else False, params=params) as response:
            refused(response)
            response.read()
            return response.json()

    return question


@contextmanager
def opened(
    url: str,
    token: str | bool | None = False,
    headers: dict[str, str] | None = None,
    params: dict[str, Any] | None = None,
    follow_redirects: bool = True,
) -> Iterator["httpx2.Response"]:
    """A GET whose body is still to be read. The token never follows a redirect to another host."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    given = build_hf_headers(token=token) | (headers or {})
    with get_session().stream("GET", url, params=params, headers=given, follow_redirects=follow_redirects) as response:
        yield response


def refused(response: "httpx2.Response") -> None:
    """Raise the library's error if the Hub refused."""
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    hf_raise_for_status(response)


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Requests by huggingface_hub in this thread wait no longer than this, and stop when the call is cancelled."""
    _hook()
    mark = BOUNDS.set(Bounds(seconds))
    try:
        yield
    finally:
        BOUNDS.reset(mark)


def scrubbed(text: str) -> str:
    token = here().hf_token
    return text.replace(token, "[token]") if token else text


def explained(error: "HfHubHTTPError") -> ToolError:
    """What the Hub refused, in words that say what to do."""
    from huggingface_hub import errors

    status = error.response.status_code
    name = getattr(error, "repo_id", None) or "This repository"
    said = scrubbed(" ".join((error.server_message or "").split()))[:300]
    match error:
        case errors.GatedRepoError():
            kind = getattr(error, "repo_type", None) or "model"
            page = f"{endpoint()}/{'' if kind == 'model' else f'{kind}s/'}{name}"
            how = "" if here().hf_token else " and sign in here with a token of that account"
            return ToolError(f"{name} is gated. Open {page} in a browser, accept its conditions{how}, then try again.")
        case errors.RepositoryNotFoundError():
            return Missing(f"{name} was not found on the Hub, or it is private and this account may not see it.")
        case errors.RevisionNotFoundError():
            return NoEntry(f"{name} has no such revision. Leave the revision out to take main.")
        case errors.EntryNotFoundError():
            return NoEntry(f"{name} has no such file.")
        case errors.DisabledRepoError():
            return ToolError(f"{name} was disabled on the Hub and cannot be read. Choose another.")
    if status == 401:
        return ToolError(f"This needs a Hugging Face token. {_new_token()}")
    if status == 403:
        return ToolError(
            f"The token may not do this ({said or 'forbidden'}). Give it the permission, or: {_new_token()}"
        )
    if status == 404:
        return NoEntry(f"The Hub has no such page ({said or 'not found'}).")
    return ToolError(f"The Hub answered {status}: {said or 'no reason given'}.")


def _answer(question: Callable[["HfApi"], T], token: str | None) -> T:
    try:
        return _once(question, token)
    except Busy as busy:
        if busy.wait > SHORT_WAIT:
            raise
        here().cancel.wait(busy.wait)
        here().check()
    return _once(question, token)


def _once(question: Callable[["HfApi"], T], token: str | None) -> T:
    import json

    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    with bounded(SECONDS):
        try:
            return question(HfApi(endpoint=endpoint(), token=token or False))
        except HFValidationError as error:
            raise ToolError(str(error)) from None
        except httpx2.TimeoutException:
            raise Unreachable(f"The Hub at {endpoint()} did not answer within {SECONDS:g} s.") from None
        except httpx2.TransportError:
            raise Unreachable(f"The Hub at {endpoint()} could not be reached.") from None
        except json.JSONDecodeError:
            raise ToolError(f"{endpoint()} does not answer as a Hub does. Check HF_ENDPOINT.") from None


def _hook() -> None:
    """Our hooks sit in the client that huggingface_hub shares, and in every one it makes after a lost connection."""
    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def factory() -> "httpx2.Client":
        client = default_client_factory()
        client.event_hooks["request"].append(_before)
        client.event_hooks["response"].append(_after)
        return client

    with HOOKING:
        logging.getLogger("huggingface_hub.utils._http").addFilter(_told_by_us)
        if _before not in get_session().event_hooks["request"]:
            set_client_factory(factory)


def _told_by_us(record: logging.LogRecord) -> bool:
    """The library prints its retries; inside our bounds the error that follows says it."""
    return BOUNDS.get() is None


def _before(request: "httpx2.Request") -> None:
    bounds = BOUNDS.get()
    if bounds is None:
        return
    here().check()
    request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), bounds.seconds)
    # the library would send an unanswered request five times more, asleep in between where no cancel reaches it
    key = (request.method, str(request.url), request.headers.get("range", ""))
    if request.method in ("GET", "HEAD") and key in bounds.sent:
        raise Unreachable(f"The Hub at {endpoint()} did not answer, or broke off.")
    bounds.sent.add(key)


def _after(response: "httpx2.Response") -> None:
    if BOUNDS.get() is None:
        return
    if response.status_code == 429:
        wait = _wanted_wait(response)
        raise Busy(f"The Hub asks to slow down (rate limit). Wait {wait:g} s, then try again.", wait)
    if response.status_code in (408, 500, 502, 503, 504):
        raise Busy(f"The Hub has trouble of its own (HTTP {response.status_code}). Try again in a minute.", 1.0)


def _wanted_wait(response: "httpx2.Response") -> float:
    after = response.headers.get("retry-after", "")
    if after.isdigit():
        return float(after)
    left = re.search(r"\bt=(\d+)", response.headers.get("ratelimit", ""))
    return float(left[1]) if left else 60.0


def _new_token() -> str:
    return f"Make one at {endpoint()}/settings/tokens and set HF_TOKEN."
