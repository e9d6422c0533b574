"""Where sandboxes live by the settings: E2B cloud, a self-hosted E2B, or the embedded server of this machine."""

import os
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.errors import UserError
from agent.sandbox import daemon
from agent.settings import Settings


@dataclass
class Place:
    """Where sandboxes live by the settings, and how the SDK gets there."""

    name: Literal["embedded", "e2b", "self-hosted e2b"]
    options: dict[str, Any] = field(repr=False)
    template: str | None = None


def place(settings: Settings) -> Place:
    """`auto`: E2B when a key is set and leaving the machine is allowed, else the embedded server."""
    key = settings.e2b_api_key
    if settings.sandbox == "e2b" and key is None:
        raise UserError("No E2B key is set. Set E2B_API_KEY, or use --sandbox embedded.")
    if settings.e2b_sandbox_url and not settings.e2b_api_url:
        raise UserError("E2B_SANDBOX_URL is set and E2B_API_URL is not. Set both, or neither.")
    if settings.sandbox == "e2b" and settings.offline and not settings.e2b_api_url:
        raise UserError("E2B cloud cannot be used offline. Leave out --offline, or use --sandbox embedded.")
    if settings.sandbox == "embedded" or key is None or (settings.offline and settings.sandbox == "auto"):
        return embedded(daemon.ensure(settings))
    options: dict[str, Any] = {"api_key": key.get_secret_value(), "debug": False}
    if settings.e2b_api_url:
        options |= {"api_url": settings.e2b_api_url, "sandbox_url": settings.e2b_sandbox_url or settings.e2b_api_url}
        return Place("self-hosted e2b", options, settings.e2b_template)
    return Place("e2b", options, settings.e2b_template)


def embedded(address: daemon.Address) -> Place:
    """The SDK takes proxies from the environment, for this machine's own address too, unless it is told not to; and
    its debug mode would talk to fixed ports."""
    for name in ("NO_PROXY", "no_proxy"):
        direct = os.environ.get(name, "").split(",")
        os.environ[name] = ",".join(dict.fromkeys(filter(None, [*direct, "127.0.0.1", "localhost"])))
    urls = {"api_url": address.url, "sandbox_url": address.url}
    return Place("embedded", {"api_key": address.key, "debug": False, **urls})
