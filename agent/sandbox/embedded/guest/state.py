"""What the parts of the guest share: who the user is, where home is, and the environment of everything it starts."""

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path

from .wire import HttpError, Request


@dataclass
class Guest:
    home: Path = Path("/home/user")
    run: Path = Path("/run/sandbox")
    user: str = "user"
    envs: dict[str, str] = field(default_factory=dict)

    def resolve(self, path: str) -> Path:
        """A path as the SDK means it: relative ones and `~` start at home."""
        if path == "~" or path.startswith("~/"):
            path = path[2:]
        return self.home / path

    def check_user(self, request: Request) -> None:
        """Everything runs as the one user there is; a request for another is refused rather than quietly changed."""
        named = request.query.get("username") or basic_user(request.headers.get("authorization", ""))
        if named not in ("", self.user):
            raise HttpError(401, f"There is no user '{named}' in this sandbox; everything runs as '{self.user}'")


def basic_user(header: str) -> str:
    scheme, _, coded = header.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(coded, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        raise HttpError(401, "The Authorization header is not valid Basic authentication") from None
