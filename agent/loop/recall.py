"""What a resumed session starts from, out of its events: memory, sandbox, files, the gate's records, and what an
interrupted turn had used of its steps and minutes, for whoever goes on with it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolagents.memory import ActionStep, TaskStep
from smolagents.monitoring import AgentLogger, Timing
from smolagents.utils import AgentError

from agent.events import ENDS, Event
from agent.loop.context import as_task
from agent.loop.outline import as_text

INTERRUPTED = "[The turn before this was interrupted in the middle. What its last steps did is not known; look first.]"
UNFINISHED = "[The turn before this ended without an answer, as {state}: {reason}]"


@dataclass
class Recalled:
    steps: list[Any] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)  # of the gate, in order
    files: dict[str, Path] = field(default_factory=dict)  # path in the sandbox -> on the host
    sandbox_id: str | None = None
    last_step: int = 0
    runs: dict[str, str] = field(default_factory=dict)  # of trainings: the state that was told last
    unseen: set[str] = field(default_factory=set)  # acts that ended in a step whose end the model never got to see
    state: str = "idle"
    reason: str = ""
    plan: str = ""  # the last one that was shown
    lost: bool = False  # a turn was interrupted and no step was done since
    steps_used: int = 0  # by a turn that was interrupted, and by those before that it went on with
    minutes_used: float = 0.0

    @property
    def interrupted(self) -> bool:
        """The process that ran it is gone and left no end."""
        return self.state in ("running", "waiting")

    @property
    def going_on(self) -> list[str]:
        return [run for run, state in self.runs.items() if state not in ENDS]

    def notes(self) -> list[str]:
        """What the model must be told first."""
        notes = [INTERRUPTED] if self.interrupted or self.lost else []
        if self.state in ("failed", "cancelled", "limit"):
            notes.append(UNFINISHED.format(state=self.state, reason=self.reason))
        return notes


def kept(step: ActionStep) -> dict[str, Any]:
    """A step as the model will see it again."""
    return {
        "said": step.model_output,
        "observed": step.observations,
        "error": step.error.message if step.error else None,
        "final": step.is_final_answer,
    }


def recall(events: Iterable[Event], logger: AgentLogger, alive_until: float = 0.0) -> Recalled:
    """`alive_until`: when the process that ran it was last alive, as far as that is known; its last cell may have said
    nothing for long."""
    found = Recalled()
    clock = Clock()
    for event in events:
        found.last_step = max(found.last_step, event.data.get("step") or 0)
        clock.see(event, found.last_step)
        if event.type == "task":
            found.steps.append(TaskStep(task=as_task(event.data["text"])))
        elif event.type == "approval":
            found.records.append(event.data)
            found.unseen.add(event.data["id"])
        elif event.type == "job" and event.data.get("run"):
            found.runs[event.data["run"]] = event.data["state"]
        elif event.type == "state":
            found.state, found.reason = event.data["state"], event.data.get("reason", "")
            found.lost = found.lost or found.state == "lost"
            detail = event.data.get("detail") or {}
            if "step" in detail:
                found.unseen.clear()
                found.lost = False
                found.steps.append(again(detail["step"], len(found.steps), logger))
            found.plan = as_text(detail["plan"]) if "plan" in detail else found.plan
            found.sandbox_id = detail.get("sandbox", found.sandbox_id)
            found.files |= {inside: Path(outside) for inside, outside in (detail.get("files") or {}).items()}
    found.files = {inside: outside for inside, outside in found.files.items() if outside.is_file()}
    found.steps_used, found.minutes_used = clock.used(alive_until if found.interrupted else 0.0)
    return found


class Clock:
    """Counts the turn that runs; one that was lost is counted into the next."""

    def __init__(self) -> None:
        self.steps, self.minutes = 0, 0.0  # of interrupted turns
        self.began_at: float | None = None
        self.began_step = self.last_step = 0
        self.last_at = 0.0

    def see(self, event: Event, last_step: int) -> None:
        if event.type == "state" and event.data["state"] in ENDS:
            used = (event.data.get("detail") or {}).get("used")
            self.steps, self.minutes = (used["steps"], used["minutes"]) if used else (0, 0.0)
            self.began_at = None
        if event.type == "task":
            self.began_at, self.began_step = event.at, last_step
        self.last_at, self.last_step = event.at, last_step

    def used(self, until: float) -> tuple[int, float]:
        if self.began_at is None:
            return self.steps, self.minutes
        seconds = max(self.last_at, until) - self.began_at
        return self.steps + self.last_step - self.began_step, self.minutes + max(0.0, seconds) / 60


def again(told: dict[str, Any], number: int, logger: AgentLogger) -> ActionStep:
    step = ActionStep(step_number=number, timing=Timing(time.time(), time.time()))
    step.model_output, step.observations = told.get("said"), told.get("observed")
    step.is_final_answer = bool(told.get("final"))
    if told.get("error"):
        step.error = AgentError(told["error"], logger)
    return step
