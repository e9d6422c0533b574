"""Where sandboxes live by the settings: E2B cloud, a self-hosted E2B, or the embedded server of this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from e2b import AuthenticationException

from agent.errors import UserError
from agent.sandbox import daemon
from agent.settings import Settings

Name = Literal["embedded", "e2b", "self-hosted e2b"]


@dataclass
class Place:
    """`options` is what every call of the SDK takes to get there."""

    name: Name
    options: dict[str, Any] = field(repr=False)
    template: str | None = None


def name_of(settings: Settings) -> Name:
    """`auto`: E2B when a key is set and leaving the machine is allowed, else the embedded server."""
    if settings.sandbox == "e2b" and settings.e2b_api_key is None:
        raise UserError("No E2B key is set. Set E2B_API_KEY, or use the embedded sandbox (sandbox = embedded).")
    if settings.e2b_sandbox_url and not settings.e2b_api_url:
        raise UserError("E2B_SANDBOX_URL is set and E2B_API_URL is not. Set both, or neither.")
    if settings.sandbox == "e2b" and settings.offline and not settings.e2b_api_url:
        raise UserError("E2B cloud cannot be used offline. Leave out offline, or use the embedded sandbox.")
    if settings.sandbox == "embedded" or settings.e2b_api_key is None:
        return "embedded"
    if settings.offline and settings.sandbox == "auto":
        return "embedded"
    return "self-hosted e2b" if settings.e2b_api_url else "e2b"


def place(settings: Settings) -> Place:
    """The place by the settings; the embedded server is started when it does not run."""
    return elsewhere(settings) or embedded(daemon.ensure(settings))


def standing(settings: Settings) -> Place | None:
    """The same, but nothing is started: None when the embedded server does not run."""
    if there := elsewhere(settings):
        return there
    found = daemon.running(settings)
    return embedded(found) if found else None


def elsewhere(settings: Settings) -> Place | None:
    name = name_of(settings)
    if name == "embedded":
        return None
    assert settings.e2b_api_key
    options: dict[str, Any] = {"api_key": settings.e2b_api_key.get_secret_value(), "debug": False}
    if settings.e2b_api_url:
        options |= {"api_url": settings.e2b_api_url, "sandbox_url": settings.e2b_sandbox_url or settings.e2b_api_url}
    return Place(name, options, settings.e2b_template)


def embedded(address: daemon.Address) -> Place:
    """The SDK takes proxies from the environment, for this machine's own address too, unless it is told not to; and
    its debug mode would talk to fixed ports."""
    for name in ("NO_PROXY", "no_proxy"):
        direct = os.environ.get(name, "").split(",")
        os.environ[name] = ",".join(dict.fromkeys(filter(None, [*direct, "127.0.0.1", "localhost"])))
    urls = {"api_url": address.url, "sandbox_url": address.url}
    return Place("embedded", {"api_key": address.key, "debug": False, **urls})


@contextmanager
def reaching(where: Place) -> Iterator[None]:
    """What a person can mend about reaching a place, in one line."""
    try:
        yield
    except AuthenticationException:
        raise UserError(f"The key was refused ({where.name}). Set the right one as E2B_API_KEY.") from None
    except httpx.HTTPError as error:
        at = where.options.get("api_url", "E2B cloud")
        reason = str(error).rpartition(": ")[2]
        raise UserError(f"{at} cannot be reached: {reason}. Check E2B_API_URL and the network.") from None
