"""A real session in the test's hands: scripted server, real client, real sandbox server, real store, tools of ours."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.events import Event, problems
from agent.policy import Mode
from agent.sandbox.open import Sandbox
from agent.session import Outcome, Session
from agent.settings import Settings, load_settings
from agent.store import Store

from .scripted_server import ScriptedServer


@dataclass
class Talk:
    """One session and everything around it that a test looks at."""

    server: ScriptedServer
    settings: Settings
    store: Store
    session: Session
    outcomes: list[Outcome] = field(default_factory=list)
    failure: BaseException | None = None

    def run(self, task: str = "Do it.", files: Sequence[Path] = ()) -> Outcome:
        outcome = self.session.run(task, files)
        self.outcomes.append(outcome)
        return outcome

    def start(self, task: str = "Do it.") -> threading.Thread:
        """The same on a thread of its own, for tests that interfere."""

        def work() -> None:
            try:
                self.run(task)
            except BaseException as error:
                self.failure = error

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def events(self, *types: str) -> list[Event]:
        return [event for event in self.store.all(self.session.id) if not types or event.type in types]

    def text(self, type: str, **match: Any) -> str:
        """The joined text of one type."""
        found = [event.data for event in self.events(type)]
        return "".join(
            str(data.get("text", "")) for data in found if all(data.get(name) == value for name, value in match.items())
        )

    def results(self, ok: bool | None = None) -> list[dict[str, Any]]:
        return [event.data for event in self.events("tool_result") if ok is None or event.data["ok"] == ok]

    def acts(self) -> list[str]:
        """What was really done by the tools that cost."""
        path = self.settings.home / "acts.log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def sandbox(self) -> Sandbox:
        assert self.session.executor.sandbox
        return self.session.executor.sandbox

    def resumed(self, mode: Mode = Mode.YES, attended: bool = False) -> "Talk":
        """Another process would see the same: the session taken up from the store alone."""
        self.session.close()
        session = Session.resume(self.settings, self.store, self.session.id, mode=mode, attended=attended)
        return Talk(self.server, self.settings, self.store, session)

    def check_log(self) -> None:
        """What holds in every session, whatever happened: no gap, nothing undocumented, one true end."""
        events = self.events()
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        wrong = [problem for event in events for problem in problems(event.type, event.data)]
        assert not wrong, wrong[:5]


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a condition; what it gave, or a failure."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def open_talk(
    home: Path, server: ScriptedServer, mode: str = "yes", attended: bool = False, cwd: Path | None = None, **over: Any
) -> Talk:
    settings = load_settings(home=str(home), sandbox="embedded", model=server.url, **over)
    store = Store.open(settings.home)
    session = Session.start(settings, store, mode=Mode(mode), attended=attended, cwd=cwd or home)
    return Talk(server, settings, store, session)
