"""Which wall stands between a sandbox and this machine: bubblewrap, else Landlock, else none. Decided by running it,
once per process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from . import landlock


@dataclass(frozen=True)
class Backend:
    """`reason` says why the better ones were not chosen; empty for the best."""

    name: Literal["bwrap", "landlock", "none"]
    reason: str = ""


@cache
def probe(try_bwrap: Callable[[], str | None]) -> Backend:
    """`try_bwrap` starts a trivial jail and returns None when it worked, else the reason."""
    no_bwrap = try_bwrap()
    if no_bwrap is None:
        return Backend("bwrap")
    no_landlock = landlock.usable()
    if no_landlock is None:
        return Backend("landlock", no_bwrap)
    return Backend("none", f"{no_bwrap}; {no_landlock}")


def refusal_line(backend: Backend) -> str:
    """What the person is told when there is no wall."""
    return (
        f"no sandbox can be started on this machine ({backend.reason}). Install bubblewrap (apt install bubblewrap) "
        "and allow user namespaces, or set E2B_API_KEY, or pass --unsafe-no-sandbox."
    )
