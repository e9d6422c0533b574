"""Jobs: a command that runs somewhere until it ends, on whichever engine. One file here is one engine.

Every runner keeps the same promises: a ref is plain data and can be taken up again by another process; a state that is
not known is never success; a time limit is always set; an unknown price is None, never 0; secrets travel in the
environment only, never in arguments, refs or files.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

State = Literal["queued", "running", "succeeded", "failed", "cancelled", "lost"]
ENDS: tuple[State, ...] = ("succeeded", "failed", "cancelled", "lost")


@dataclass(frozen=True)
class Offer:
    """A machine that a runner could use. None: not known."""

    name: str
    cpus: int
    mem_gb: float | None = None
    gpus: int = 0
    gpu: str | None = None
    vram_gb: float | None = None
    usd_per_hour: float | None = None


@dataclass(frozen=True)
class JobSpec:
    """What to run. `folder` is where the job works and where its log and its traces lie."""

    command: list[str]
    folder: Path
    timeout_s: float
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    offer: str = "local"
    gpus: int = 0
    grace_s: float = 30  # between the request to stop and the kill
    labels: dict[str, str] = field(default_factory=dict)
    lost_code: int | None = None  # the exit code by which the command says that nobody knows how its work ended

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < float("inf"):
            raise ValueError("a job needs a time limit above 0 seconds")


@dataclass(frozen=True)
class JobRef:
    """Enough to find a job again after a restart. `where` is the runner's own business, plain JSON."""

    runner: str
    id: str
    where: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "JobRef":
        return cls(data["runner"], data["id"], dict(data.get("where") or {}))


@dataclass(frozen=True)
class JobStatus:
    state: State
    exit_code: int | None = None
    message: str = ""
    started: float | None = None
    ended: float | None = None

    @property
    def over(self) -> bool:
        return self.state in ENDS


class Runner(Protocol):
    name: str

    def offers(self) -> list[Offer]: ...

    def submit(self, spec: JobSpec) -> JobRef: ...

    def status(self, ref: JobRef) -> JobStatus: ...

    def logs(self, ref: JobRef, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """Whole lines in order; with `follow` until the job is over and its last line was given."""
        ...

    def cancel(self, ref: JobRef) -> None:
        """Ask the job to stop; it may take its grace to save what it has. Nothing happens if it is over."""
        ...
