"""What surrounds a tool call on the host: whose token, which folders, whether the network may be used, who listens.

Set by whoever calls the tool, for the duration of the call and its thread; a tool asks `here()`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


class ToolError(Exception):
    """What went wrong and what to do, in words the model or a person can act on. Its text is shown as it is."""


class Cancelled(ToolError):
    """The person stopped the run while the tool worked."""


@dataclass
class Context:
    home: Path = field(default_factory=lambda: Path("~/.modelsmith").expanduser())
    folder: Path = field(default_factory=Path.cwd)  # where relative local paths start
    offline: bool = False
    hf_token: str | None = field(default=None, repr=False)
    cancel: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[float | None, str], None] = lambda done, text: None  # done: 0 to 1, None: unknown

    def check(self) -> None:
        """Call between pieces of long work."""
        if self.cancel.is_set():
            raise Cancelled("The call was cancelled.")


CURRENT: ContextVar[Context | None] = ContextVar("tool context", default=None)


def here() -> Context:
    return CURRENT.get() or Context()


@contextmanager
def inside(context: Context) -> Iterator[Context]:
    token = CURRENT.set(context)
    try:
        yield context
    finally:
        CURRENT.reset(token)
