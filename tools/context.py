"""What surrounds a tool call on the host: whose token, which folders, whether the network may be used, who listens.

Set by whoever calls the tool, for the duration of the call and its thread; a tool asks `here()`.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol


class ToolError(Exception):
    """What went wrong and what to do, in words the model or a person can act on. Its text is shown as it is."""


class Cancelled(ToolError):
    """The person stopped the run while the tool worked."""


Line = Callable[[str], None]
End = Literal["exited", "timeout", "cancelled", "lost"]  # lost: the sandbox went away under it


@dataclass(frozen=True)
class Ended:
    """How a program in the jail ended: its exit code, when there is one, and the last lines it printed."""

    end: End
    exit_code: int | None
    seconds: float
    output: str

    @property
    def ok(self) -> bool:
        return self.end == "exited" and self.exit_code == 0


@dataclass(frozen=True)
class Detached:
    """A command of this host that runs a program in the jail, with what it needs in its environment."""

    command: list[str]
    env: dict[str, str]
    secrets: dict[str, str] = field(repr=False)


class Jail(Protocol):
    """Where a program runs that nobody has vouched for. It works in `folder` of this host and keeps what it writes
    there, may read `reads` (files or folders, also some within the folder, which it then cannot change), each at its
    own path, and sees nothing else of this host and no secret. A command's `sys.executable` is the jail's Python."""

    def run(
        self,
        folder: Path,
        command: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        reads: Sequence[Path] = (),
        line: Line = lambda text: None,
        grace: float = 10,
    ) -> Ended:
        """Run it to its end; `line` gets each line at once. At `timeout` seconds, or when the call is cancelled, it is
        asked to stop and killed after `grace`."""
        ...

    def detached(
        self, folder: Path, command: Sequence[str], *, env: Mapping[str, str], reads: Sequence[Path]
    ) -> Detached:
        """The same for a job that outlives this process: what to start on this host. It prints what the
        program prints and ends with its exit code, or 125 when the sandbox was lost; a TERM is passed on."""
        ...


@dataclass
class Context:
    home: Path = field(default_factory=lambda: Path("~/.modelsmith").expanduser())
    folder: Path = field(default_factory=Path.cwd)  # where relative local paths start
    offline: bool = False
    confined: bool = False  # local files outside of `folder` and `home` are none of the caller's business
    hf_token: str | None = field(default=None, repr=False)
    cancel: threading.Event = field(default_factory=threading.Event)
    jail: Jail | None = None  # None: such programs cannot be run here
    progress: Callable[[float | None, str], None] = lambda done, text: None  # done: 0 to 1, None: unknown
    tell: Callable[[str, dict[str, Any]], None] = lambda kind, data: None  # an event: job, metric or error
    told: dict[str, Any] = field(default_factory=dict)  # what a tool has told this session already

    def check(self) -> None:
        """Call between pieces of long work."""
        if self.cancel.is_set():
            raise Cancelled("The call was cancelled.")

    def fence(self, value: Any) -> None:
        """For a confined caller: refuse arguments that name what lies outside, as text at any depth."""
        if not self.confined:
            return
        if isinstance(value, dict):
            for name, inner in value.items():
                self.fence(name)
                self.fence(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                self.fence(inner)
        elif isinstance(value, str) and self.outside(value):
            raise ToolError(f"{value[:200]!r} lies outside of your folder. Upload the file, or name one of the Hub.")

    def outside(self, text: str) -> bool:
        """Whether a text, taken as a path, leads to something beyond the rooms of this caller."""
        if len(text) > 4096 or "\n" in text:
            return False
        try:
            written = Path(text.removeprefix("file://")).expanduser()
            found = (self.folder / written).resolve()
            if found.is_relative_to(self.folder.resolve()) or found.is_relative_to(self.home.resolve()):
                return False
            return found.exists() or written.is_absolute()
        except (OSError, ValueError, RuntimeError):  # a NUL, no such home: no path of this machine
            return text.startswith(("/", "~", "file:"))


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
