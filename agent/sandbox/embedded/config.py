"""What the server is told: where it listens, what a sandbox may use, whom it may talk to.

Plain data, no reading of files or environment: whoever starts the server decides where the values come from.
"""

import hashlib
import secrets
import sys
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .limits import Limits


@dataclass(frozen=True)
class Share:
    """A host directory seen inside the sandbox. Read-only unless `write` is said."""

    host: Path
    inside: str
    write: bool = False


@cache
def code_digest() -> str:
    """Of this package as it lies on disk: a server from before an update does not fit the guests of after it."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


@dataclass
class Config:
    root: Path
    host: str = "127.0.0.1"
    port: int = 0
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    limits: Limits = field(default_factory=Limits)
    allow: list[str] | None = None  # None: what pip and huggingface_hub are configured to use
    local_only: bool = False
    shares: list[Share] = field(default_factory=list)
    pool: int = 1  # warm sandboxes kept ready
    max_sandboxes: int = 64
    max_timeout: int = 24 * 3600
    idle_exit: float | None = None  # leave after so many seconds without a sandbox
    unsafe_no_sandbox: bool = False
    python: Path = field(default_factory=lambda: Path(sys.executable))
    first_uid: int = 64000  # root gives each sandbox a uid of its own, counted from here

    @property
    def mark(self) -> str:
        """Names what belongs to the server of this root, so that its next start finds what it left."""
        return "sandbox-" + hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:10]

    @property
    def terms(self) -> dict[str, Any]:
        """What a sandbox here gets and may do, as JSON values: a client can see whether it is what it wants."""
        return {
            **asdict(self.limits),
            "allow": self.allow,
            "local_only": self.local_only,
            "shares": [f"{share.host}:{share.inside}:{'rw' if share.write else 'ro'}" for share in self.shares],
            "max_sandboxes": self.max_sandboxes,
            "unsafe_no_sandbox": self.unsafe_no_sandbox,
            "python": str(self.python.parent),
            "code": code_digest(),
        }
