"""One turn in front of a person: runs the session in a thread, shows its events, asks, and passes Ctrl-C on.

Only the store is shown: events come in the order of their numbers, each once, and none is skipped; a slow terminal
slows nothing but itself. Once Ctrl-C cancels the turn, twice within two seconds leaves the process with 130.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agent.cli.question import ask
from agent.cli.view import View
from agent.events import ENDS, Event

if TYPE_CHECKING:
    from agent.session import Outcome, Session
    from agent.store import Store

CANCELLED = 130
TWICE = 2.0  # seconds


class Screen:
    """A session on a view, turn after turn. `seen` is the number of the last event that was shown."""

    def __init__(self, store: "Store", session: "Session", view: View, seen: int):
        self.store, self.session, self.view, self.seen = store, session, view, seen
        self.over = threading.Event()  # no turn runs
        self.stray = False  # a turn was broken off: a tool may still be at work

    def turn(self, task: str, files: Sequence[Path] = ()) -> "Outcome":
        self.over.clear()
        work = _Work(lambda: self.session.run(task, files), self.over)
        with interrupts(self.session.cancel, self._leave):
            self.view.begin()
            work.start()
            try:
                self._follow()
                work.join()
                self._show(self.store.all(self.session.id, self.seen))
            finally:
                if work.is_alive():  # the view broke, perhaps because its reader left: nobody would see the rest
                    self.session.cancel()
                    work.join()
                self.view.flush()
        outcome = work.result()
        self.stray = self.stray or outcome.state != "succeeded"
        return outcome

    def close(self) -> None:
        self.session.close()

    def _follow(self) -> None:
        for event in self.store.follow(self.session.id, self.seen, self.over):
            self._show([event])
            if event.type == "state" and event.data["state"] in ENDS:
                return

    def _show(self, events: Any) -> None:
        for event in events:
            self.view.show(event)
            self.seen = event.seq

    def _leave(self) -> None:
        self.view.leave()
        told = f"\nleft; session {self.session.id} can be resumed: python -m agent sessions resume {self.session.id}\n"
        os.write(2, told.encode())


class Asking(Screen):
    """A screen with a person before it: calls that need a yes are put to them."""

    def _show(self, events: Any) -> None:
        for event in events:
            self.view.show(event)
            self.seen = event.seq
            if event.type == "approval" and event.data["decision"] == "ask":
                self._ask(event)

    def _ask(self, event: Event) -> None:
        id = event.data["id"]
        stands = self._standing(id, event.seq)
        verdict = ask(self.view, event.data["card"], stands) if stands() else None
        if verdict is None:
            return
        if verdict.allowed:
            self.session.approve(id, verdict.session_usd)
        else:
            self.session.refuse(id, verdict.reason)

    def _standing(self, id: str, seq: int) -> Callable[[], bool]:
        """Whether a question is still open, as far as the events tell."""
        looked = seq

        def stands() -> bool:
            nonlocal looked
            for event in self.store.all(self.session.id, looked):
                looked = event.seq
                if event.type == "approval" and event.data["id"] == id and event.data["decision"] != "ask":
                    return False
            return not self.over.is_set()

        return stands


def leave(code: int) -> NoReturn:
    """Ends the process without waiting for threads: a tool that did not hear its cancel must not keep the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Work(threading.Thread):
    """The turn in its own thread; what it raised is raised again where its result is asked for."""

    def __init__(self, run: Callable[[], "Outcome"], over: threading.Event):
        super().__init__(name="turn", daemon=True)
        self._run_turn = run
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._over = over

    def run(self) -> None:
        try:
            self._outcome = self._run_turn()
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()

    def result(self) -> "Outcome":
        if self._error is not None:
            raise self._error
        return self._outcome


@contextmanager
def interrupts(cancel: Callable[[], None], leave: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C, a closed terminal and a polite kill call `cancel`, in a thread of its own: a signal may come while this
    thread holds any lock, so its handler must not take one."""
    presses: queue.SimpleQueue[bool] = queue.SimpleQueue()
    last = -TWICE

    def pressed(number: int, frame: object) -> None:
        nonlocal last
        now = time.monotonic()
        if number == signal.SIGINT and now - last <= TWICE:
            leave()
            os._exit(CANCELLED)  # not by an exception: half of the program may be waiting for something
        last = now if number == signal.SIGINT else last
        presses.put(True)

    def listen() -> None:
        while presses.get():
            cancel()

    threading.Thread(target=listen, name="interrupts", daemon=True).start()
    before = {number: signal.signal(number, pressed) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        presses.put(False)
