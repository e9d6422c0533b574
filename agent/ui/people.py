"""Who is asking: the one answer for every route, page and WebSocket. Nothing else here may decide it.

A door knows how people come in. This file has those that need no sign-in of ours; passwords and the Hub have their own.
A person owns sessions by `name`; the one person of this machine has the empty name, as in the terminal.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute

from agent.settings import Settings


@dataclass(frozen=True)
class Person:
    """`token` is the person's own at the Hub, where they signed in there."""

    name: str
    shown: str = ""
    token: SecretStr | None = field(default=None, repr=False)


class Door(Protocol):
    """`local`: there is one person, of this machine. `can_sign_out`: the page shows a way out."""

    local: bool
    space: bool
    can_sign_out: bool

    def who(self, connection: HTTPConnection) -> Person | None: ...

    def known(self, name: str) -> Person | None:
        """Somebody who may come in, though they are not asking now."""
        ...

    def routes(self) -> list[BaseRoute]:
        """Pages and forms that are open to everybody: how to come in."""
        ...


class Local:
    """Whoever reaches the loopback address is the person of this machine."""

    local, space, can_sign_out = True, False, False

    def who(self, connection: HTTPConnection) -> Person | None:
        return Person("", "you")

    def known(self, name: str) -> Person | None:
        return None if name else Person("", "you")

    def routes(self) -> list[BaseRoute]:
        return []


class Header:
    """A reverse proxy signed people in and names them in a header. Only the proxy itself is believed: the guard takes
    the header off every request that comes from another address."""

    local, space, can_sign_out = False, False, False

    def __init__(self, name: str):
        self.name = name.lower()

    def who(self, connection: HTTPConnection) -> Person | None:
        told = connection.headers.getlist(self.name)
        name = told[0].strip() if len(told) == 1 else ""
        return Person(name, name) if name and name.isprintable() and len(name) <= 200 else None

    def known(self, name: str) -> Person | None:
        return Person(name, name) if name else None

    def routes(self) -> list[BaseRoute]:
        return []


def folder_of(settings: Settings, person: Person) -> Path:
    """Where everything lies that belongs to a person alone."""
    if not person.name:
        return settings.home
    return settings.home / "people" / safe(person.name)


def safe(name: str) -> str:
    """A name as a folder's: no two people share one, none leads elsewhere."""
    plain = "".join(
        sign if sign.isascii() and (sign.islower() or sign.isdigit() or sign == "-") else f"_{ord(sign):x}_"
        for sign in name
    )
    return plain if len(plain) <= 100 else f"{plain[:60]}_{digest(name)}"


def digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:32]


def settings_for(settings: Settings, person: Person, **changes: Any) -> Settings:
    """The settings a person's sessions run by. Nobody works with another's token: not even with the host's."""
    if not person.name:
        return settings.model_copy(update=changes)
    own = {"home": folder_of(settings, person), "sandbox_home": settings.sandbox_home or settings.home}
    return settings.model_copy(update={**own, "hf_token": person.token, "confined": True, **changes})
