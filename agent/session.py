"""One conversation: builds the parts, runs turns, and keeps everything as events so that it can go on after any crash.

What a front end needs it reads from the store; this object is only for the process that runs the session. A turn ends
as succeeded, failed, cancelled, limit or lost, with a reason; an unknown end is never success.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolagents.memory import ActionStep

from agent import toolbox
from agent.errors import UserError
from agent.events import Coalescer
from agent.loop import carry, know_how, outline, place, prompt, recall, runs
from agent.loop.agent import Smith
from agent.loop.bridge import Bridge
from agent.loop.context import Context, as_task
from agent.loop.endings import LimitReached, TurnCancelled, TurnEnded, TurnFailed
from agent.loop.executor import SandboxExecutor
from agent.loop.given import Given
from agent.loop.said import said
from agent.models.errors import Cancelled, ModelError
from agent.models.resolve import Choice, resolve
from agent.policy import Budget, Gate, Mode
from agent.sandbox.jail import SandboxJail
from agent.sandbox.open import Sandbox, SandboxGone, open_sandbox
from agent.settings import Settings
from agent.skills import Skill, Skills
from agent.store import Lease, Store, StoreError
from tools import context as tool_context

log = logging.getLogger(__name__)
NEW_SANDBOX = "[The sandbox of the turns before is gone; this is a new one. Variables and files made there are lost.]"


@dataclass(frozen=True)
class Outcome:
    """How a turn ended. `answer` is Markdown text or a tool's envelope."""

    state: str
    reason: str
    exit_code: int
    answer: Any = None


class Session:
    def __init__(
        self, settings: Settings, store: Store, lease: Lease, choice: Choice, cwd: Path, mode: Mode, attended: bool
    ):
        self.settings, self.store, self.lease, self.cwd = settings, store, lease, Path(os.path.abspath(cwd))
        self.id = lease.session
        self.cancel_flag = threading.Event()
        self.stopped_by: TurnEnded | None = None
        self.given = Given(self.cwd, settings.confined)
        self.sandbox_id: str | None = None
        self.unseen: set[str] = set()  # acts of an interrupted step
        self.notes: list[str] = []  # what the model must be told with the next task
        self.runs: list[str] = []  # trainings that went on while no agent looked
        self.used: dict[str, Any] = {}  # steps and minutes of an interrupted turn that the next one goes on with
        self.turn_lock = threading.Lock()
        self.events = Coalescer(self.store_events, store.redactor)
        self.choice = choice
        store.set_model(self.id, choice.label)
        self.skills = Skills.discover(cwd, settings.home)
        self.skills_inside: set[str] = set()  # whose files are in the sandbox already
        self.build(mode, attended)

    @classmethod
    def start(
        cls, settings: Settings, store: Store, *, mode: Mode, attended: bool, cwd: Path, title: str = ""
    ) -> "Session":
        guard_secrets(settings, store)
        choice = choose_model(settings)  # first: a wrong model leaves no empty session behind
        made = store.create_session(title=title, cwd=str(cwd))
        session = cls(settings, store, store.claim(made.id), choice, cwd, mode, attended)
        session.tell_model()
        return session

    @classmethod
    def resume(cls, settings: Settings, store: Store, session_id: str, *, mode: Mode, attended: bool) -> "Session":
        """Goes on where the events end: the model's memory, the sandbox if it lives, the gate with what was spent."""
        guard_secrets(settings, store)
        known, choice = store.session(session_id), choose_model(settings)
        lease = store.claim(known.id)
        try:
            session = cls(settings, store, lease, choice, Path(known.cwd or Path.cwd()), mode, attended)
            session.recall()
        except BaseException:
            lease.release()
            raise
        session.tell_model()
        return session

    # -- parts -------------------------------------------------------------------------------------------------------

    def tell_model(self) -> None:
        told = {"model": self.choice.label, "why": self.choice.why, "spec": self.settings.model}
        self.emit("state", {"state": "idle", "detail": told})

    def build(self, mode: Mode, attended: bool) -> None:
        settings = self.settings
        budget = Budget(settings.max_usd, settings.max_minutes, settings.max_steps)
        self.gate = Gate(mode, budget, settings.offline, attended)
        self.tool_context = tool_context.Context(
            home=settings.home,
            folder=self.cwd,
            offline=settings.offline,
            confined=settings.confined,
            hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
            cancel=self.cancel_flag,
            jail=SandboxJail(settings),
        )
        artifacts = settings.home / "artifacts" / self.id
        self.tools = {
            **toolbox.load(),
            **carry.carrying_tools(self.given, lambda: self.executor.ready(), artifacts, self.tell_kept),
            **know_how.skill_tools(self.skills, self.use_skill),
            **outline.plan_tool(self.tell_plan),
        }
        self.bridge = Bridge(
            self.tools, self.gate, self.emit, self.tool_context, self.once, self.store.redactor, self.hold
        )
        self.context = Context(self.summarise, self.choice.window)
        self.executor = SandboxExecutor(
            opener=self.open_sandbox,
            settle=self.given.settle,
            bridge=self.bridge,
            emit=self.emit,
            artifacts=artifacts,
            observation_cap=self.context.observation_cap(),
        )
        self.agent = Smith(
            model=self.choice.model,
            executor=self.executor,
            context=self.context,
            emit=self.emit,
            flush=self.events.flush,
            cancel=self.cancel_flag,
            system_text="",
            limits=self.limits,
            remember=self.remember,
            model_name=self.choice.label,
        )

    def tell_plan(self, plan: dict[str, Any]) -> None:
        self.context.plan = outline.as_text(plan)
        self.emit("state", {"state": "running", "detail": {"plan": plan}})

    def tell_kept(self, path: Path) -> None:
        kind = "plot" if path.suffix in (".png", ".jpg", ".svg") else "file"
        told = {"path": str(path), "kind": kind, "title": path.name, "size": path.stat().st_size}
        self.emit("artifact", {**told, "step": self.executor.step})

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        self.events.append(kind, data)

    def store_events(self, items: list[tuple[str, dict[str, Any]]]) -> None:
        """An event that can never be written as it is gives way to a note; it would hold up all that follow."""
        try:
            self.store.append_many(self.id, items)
        except (StoreError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, StoreError) and error.kind != "large":
                raise
            if len(items) > 1:
                for item in items:
                    self.store_events([item])
                return
            log.exception("an event could not be stored")
            told = f"An event ({items[0][0]}) could not be stored: {type(error).__name__}: {error}"
            self.store.append(self.id, "error", {"text": told[:500], "kind": "store"})

    def once(self, key: str) -> Any:
        """The slot of an act: the same act done again in this session, after it was finished, is another one. Not so
        after a crash that hid its end from the model: then the first one's result is what it gets."""
        records = self.gate.to_state()["records"]
        records = [entry for entry in records if entry["fingerprint"] == key and entry["id"] not in self.unseen]
        done = sum(entry["decision"] == "settled" and not came_to_nothing(entry) for entry in records)
        return self.store.once(f"{self.id}:{key}:{done}", self.id)

    def hold(self) -> Any:
        assert self.executor.sandbox
        return self.executor.sandbox.hold()

    # -- the sandbox -------------------------------------------------------------------------------------------------

    def open_sandbox(self) -> Sandbox:
        """The one of the turns before when it still lives, else a new one, of which the model is told."""
        if self.sandbox_id:
            try:
                sandbox = open_sandbox(self.settings, sandbox_id=self.sandbox_id)
                if sandbox.alive():
                    return sandbox
            except SandboxGone:
                pass
            if not self.executor.replaced:  # in the middle of a turn the executor tells it
                self.notes.append(NEW_SANDBOX)
        sandbox = open_sandbox(self.settings, metadata={"session": self.id})
        self.skills_inside.clear()
        self.sandbox_id = sandbox.id
        self.emit("state", {"state": "running", "detail": {"sandbox": sandbox.id, "place": sandbox.where.name}})
        return sandbox

    # -- a turn ------------------------------------------------------------------------------------------------------

    def run(self, task: str, files: Sequence[Path] = ()) -> Outcome:
        """One turn, to its end. Everything visible comes as events; the outcome is the last of them."""
        if not task.strip():
            raise UserError("The task is empty. Say what you want.")
        with self.turn_lock:
            self.executor.forget_dead()
            taken = self.given.take([*files, *self.given.named(task, files)], self.executor.sandbox)
            self.cancel_flag.clear()
            self.stopped_by = self.bridge.ending = None
            self.executor.cancelled = self.executor.replaced = False
            known = {place: str(path) for place, path in self.given.inside.items()}
            self.emit("state", {"state": "running", "detail": {"files": known}})
            self.emit("task", {"text": task, "files": taken})
            self.gate.new_turn(**self.used)
            self.used = {}
            started = time.monotonic()
            clock = self.start_clock()
            try:
                outcome = self.work(task)
            finally:
                clock.cancel()
                self.gate.progress(minutes=(time.monotonic() - started) / 60)
            return self.finish(outcome)

    def work(self, task: str) -> Outcome:
        """The turn itself; every way it can end becomes an Outcome."""
        try:
            self.executor.ready()
            self.agent.system_text = self.system_text(task)
            self.agent.begin_turn()
            for _ in self.agent.run(as_task(task, self.take_notes()), stream=True, reset=False):
                pass
            return Outcome("succeeded", "", 0, self.agent.answer)
        except TurnEnded as ending:
            ended = self.stopped_by if isinstance(ending, TurnCancelled) and self.stopped_by else ending
            return Outcome(ended.state, ended.reason, ended.exit_code)
        except (UserError, SandboxGone) as error:
            return Outcome("failed", str(error), 2 if isinstance(error, UserError) else 1)
        except StoreError:
            raise  # nothing can be recorded any more: whoever runs us must say so
        except Exception as error:
            log.exception("the turn failed")
            return Outcome("failed", f"{type(error).__name__}: {error}", 1)

    def finish(self, outcome: Outcome) -> Outcome:
        for line in self.context.told:
            self.emit("error", {"text": line, "kind": "context"})
        self.context.told.clear()
        if outcome.state == "succeeded":
            self.emit("answer", said(outcome.answer))
        else:
            kind = "limit" if outcome.state == "limit" else "turn"
            self.emit("error", {"text": outcome.reason, "kind": kind, "fatal": True})
            self.notes.append(recall.UNFINISHED.format(state=outcome.state, reason=outcome.reason))
        told: dict[str, Any] = {"state": outcome.state, "reason": outcome.reason, "exit_code": outcome.exit_code}
        if outcome.state == "lost":
            self.used = self.gate.used()
            told["detail"] = {"used": self.used}
        self.emit("state", told)
        self.events.flush()
        return outcome

    def system_text(self, task: str) -> str:
        where = place.describe(self.settings, self.executor.ready(), self.given.told())
        tools = self.tools.values()
        catalog = self.skills.catalog(prompt.room_for_catalog(tools))
        bodies = self.skills.match(task, prompt.room_for_bodies(prompt.system(tools, where, catalog)))
        for skill in bodies:
            self.use_skill(skill)
        shown = [{"name": skill.name, "folder": skill.inside, "body": self.skills.body(skill)} for skill in bodies]
        return prompt.system(tools, where, catalog, shown)

    def use_skill(self, skill: Skill) -> None:
        """Its files go into the sandbox, once for each sandbox."""
        if skill.name not in self.skills_inside:
            know_how.copy_in(self.executor.ready(), skill)
            self.skills_inside.add(skill.name)

    def take_notes(self) -> list[str]:
        going_on = runs.notes(self.runs, self.tools, self.tool_context, self.emit)
        told, self.notes, self.runs = [*self.notes, *going_on], [], []
        return told

    def limits(self) -> str | None:
        """Before each step: is a limit reached, do we still hold the session?"""
        if self.cancel_flag.is_set():
            raise TurnCancelled("cancelled by the person")
        if not self.lease.held():
            raise TurnFailed("another process took over this session")
        reached = self.gate.progress()
        self.gate.progress(steps=1)
        return reached

    def start_clock(self) -> threading.Timer:
        """The wall clock of --max-minutes also ends a turn that hangs in one step."""
        limit, used = self.gate.budget.max_minutes, self.gate.to_state()["minutes"]
        reason = LimitReached(f"the limit of {limit:g} minutes is reached (--max-minutes)") if limit else None
        seconds = max(0.0, (limit - used) * 60) if limit else threading.TIMEOUT_MAX
        clock = threading.Timer(seconds, self.stop, [reason])
        clock.daemon = True
        if limit:
            clock.start()
        return clock

    def summarise(self, messages: list[dict[str, Any]]) -> str:
        ask = [*messages, {"role": "user", "content": prompt.render("summary")}]
        try:
            ask = self.store.redactor.value(ask)
            return self.choice.model.generate(ask, cancel=self.cancel_flag, stop_at=None).text
        except Cancelled:
            raise TurnCancelled("cancelled by the person") from None
        except ModelError as error:
            self.context.told.append(f"The model could not sum up what was done: {error}")
            return ""

    # -- from other threads ------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        self.stop(None)

    def stop(self, why: TurnEnded | None) -> None:
        """End the running turn: the model's stream, the tool calls, the cell."""
        self.stopped_by = self.stopped_by or why
        self.cancel_flag.set()
        self.bridge.cancel()
        self.executor.cancel()

    def approve(self, id: str, session_usd: float | None = None) -> None:
        self.bridge.approve(id, session_usd)

    def refuse(self, id: str, reason: str = "") -> None:
        self.bridge.refuse(id, reason)

    def close(self) -> None:
        """Give the session free. Its sandbox lives on until its timeout, so that the next turn may find it."""
        self.bridge.close()
        try:
            self.events.flush()
        finally:
            self.lease.release()

    # -- memory ------------------------------------------------------------------------------------------------------

    def remember(self, step: ActionStep) -> None:
        """Into the log: this is what a resumed session starts from."""
        self.emit("state", {"state": "running", "detail": {"step": recall.kept(step)}})

    def recall(self) -> None:
        """Rebuild what only this process knows from the events."""
        found = recall.recall(self.store.all(self.id), self.agent.logger, self.lease.inherited)
        self.agent.memory.steps, self.given.inside, self.sandbox_id = found.steps, found.files, found.sandbox_id
        self.agent.steps_done = found.last_step
        self.unseen = found.unseen if found.interrupted else set()
        old = self.gate
        self.gate = Gate.from_state({"records": found.records}, old.mode, old.budget, old.offline, old.attended)
        self.bridge.gate = self.gate
        self.notes += found.notes()
        self.runs, self.context.plan = found.going_on, found.plan
        self.used = {"steps": found.steps_used, "minutes": found.minutes_used}
        if found.interrupted:
            why = "the agent was stopped in the middle of a turn"
            self.emit("state", {"state": "lost", "reason": why, "detail": {"used": self.used}})


def choose_model(settings: Settings) -> Choice:
    return resolve(
        settings.model,
        offline=settings.offline,
        hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
        api_key=settings.model_key.get_secret_value() if settings.model_key else None,
        profiles=settings.home / "models",
    )


def guard_secrets(settings: Settings, store: Store) -> None:
    """What must never be written, shown or sent."""
    for secret in (settings.hf_token, settings.e2b_api_key, settings.model_key):
        if secret:
            store.redactor.add(secret.get_secret_value())


def came_to_nothing(entry: dict[str, Any]) -> bool:
    """Whether a settled act was refused by the tool itself, or was only a second call beside the one that did it."""
    return entry["spent"] == 0 and entry.get("result") is None
