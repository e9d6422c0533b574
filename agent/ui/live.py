"""The sessions that this server runs: one thread for each turn, whoever is looking or not.

Between two turns a session is free for others (a terminal, another server); the object is kept warm and used again if
nobody else wrote meanwhile. What runs is written down, so that a server that was stopped or killed goes on with it.
"""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import UserError
from agent.loop.endings import TurnEnded, TurnLost
from agent.policy import Mode
from agent.session import Session
from agent.settings import Settings
from agent.store import Claimed, Store

PATIENCE = 5.0  # seconds that turns have to end when the server is stopped
WARM = 32  # sessions between two turns that are kept in memory
log = logging.getLogger(__name__)


class Busy(UserError):
    """A turn of this session runs."""


@dataclass
class Turn:
    session: Session
    thread: threading.Thread


class Live:
    def __init__(self, store: Store, home: Path, mode: Mode = Mode.ASK):
        self.store, self.path, self.mode = store, home / "turns.json", mode
        self.lock, self.answering = threading.Lock(), threading.Lock()
        self.turns: dict[str, Turn] = {}
        self.opening: set[str] = set()
        self.warm: OrderedDict[str, tuple[Session, int]] = OrderedDict()
        self.closing = False

    # -- a turn ------------------------------------------------------------------------------------------------------

    def start(self, id: str, settings: Settings, task: str, files: Sequence[Path] = ()) -> None:
        """Begin a turn; what a person can mend is raised here, all else becomes events. Busy when one runs."""
        with self.lock:
            if self.closing:
                raise UserError("The server is being stopped. Try again when it is back.")
            if id in self.turns or id in self.opening:
                raise Busy("A turn is running. Stop it, or wait for its end.")
            self.opening.add(id)
        try:
            session = self.take_up(id, settings)
            thread = threading.Thread(target=self.work, args=(session, task, files), name=f"turn {id}", daemon=True)
            with self.lock:
                self.turns[id] = Turn(session, thread)
                self.write_down()
                thread.start()
        finally:
            with self.lock:
                self.opening.discard(id)

    def take_up(self, id: str, settings: Settings) -> Session:
        """The warm session when it still knows everything, else one made anew from the log."""
        with self.lock:
            kept = self.warm.pop(id, None)
        if kept:
            session, seen = kept
            if session.settings == settings and self.store.session(id).last_seq == seen:
                session.lease = self.store.claim(id)
                return session
            session.close()
        return Session.resume(settings, self.store, id, mode=self.mode, attended=True)

    def work(self, session: Session, task: str, files: Sequence[Path]) -> None:
        try:
            session.run(task, files)
        except UserError as error:
            session.emit("error", {"text": str(error), "kind": "turn", "fatal": True})
            session.emit("state", {"state": "failed", "reason": str(error), "exit_code": 2})
        except Exception:
            log.exception("the turn of %s broke off", session.id)
        finally:
            self.put_down(session)

    def put_down(self, session: Session) -> None:
        """Give the session free, and keep what it knows."""
        try:
            session.events.flush()
            seen = self.store.session(session.id).last_seq
        except Exception:
            log.exception("%s could not be put down", session.id)
            seen = -1
        session.lease.release()
        with self.lock:
            self.turns.pop(session.id, None)
            if seen >= 0:
                self.warm[session.id] = session, seen
            old = self.warm.popitem(last=False)[1][0] if len(self.warm) > WARM else None
            if not self.closing:
                self.write_down()
        if old:
            old.close()

    # -- from the page -----------------------------------------------------------------------------------------------

    def running(self, id: str) -> bool:
        with self.lock:
            return id in self.turns or id in self.opening

    def turn(self, id: str) -> Session:
        """The session whose turn runs here."""
        with self.lock:
            if id in self.turns:
                return self.turns[id].session
        if self.store.running(id):
            raise Claimed("Another program runs this session, a terminal perhaps. Stop or answer it there.")
        raise Busy("No turn of this session runs now. Send a task to begin one.")

    def stop(self, id: str) -> None:
        self.turn(id)  # says why it cannot be stopped here
        with self.lock:
            turn = self.turns.get(id)
        if turn:
            threading.Thread(target=insist, args=(turn, None), name=f"stop {id}", daemon=True).start()

    def decide(self, id: str, approval: str, answer: Callable[[Session], None]) -> None:
        """`answer` is given once to a question that is still open, whoever asks first."""
        session = self.turn(id)
        with self.answering:
            records = session.gate.to_state()["records"]
            if not any(one["id"] == approval and one["decision"] == "ask" for one in records):
                raise Busy("That question is settled already. Nothing was changed.")
            answer(session)

    def forget(self, id: str) -> None:
        """Before a session is deleted, or goes on with another model."""
        with self.lock:
            kept = self.warm.pop(id, None)
        if kept:
            kept[0].close()

    def forget_warm(self) -> None:
        """What sessions stand on has changed: each begins its next turn anew."""
        with self.lock:
            kept, self.warm = list(self.warm.values()), OrderedDict()
        for session, _ in kept:
            session.close()

    # -- over restarts -----------------------------------------------------------------------------------------------

    def write_down(self) -> None:
        """What runs now. Called with the lock held."""
        half = self.path.with_suffix(".half")
        half.write_text(json.dumps(sorted(self.turns)))
        half.replace(self.path)

    def interrupted(self) -> list[str]:
        """What ran here when the server before this one ended, and what nobody has taken up since."""
        try:
            listed = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return []
        return [id for id in listed if isinstance(id, str) and self.unfinished(id)]

    def unfinished(self, id: str) -> bool:
        try:
            known = self.store.session(id)
        except UserError:  # deleted since
            return False
        return known.id == id and known.state in ("running", "waiting", "lost") and not self.store.running(id)

    def close(self) -> None:
        """Ends all turns as lost: the next server goes on with them."""
        with self.lock:
            self.closing = True
            turns = list(self.turns.values())
        why = TurnLost("the server was stopped in the middle of the turn")
        for turn in turns:
            threading.Thread(target=insist, args=(turn, why), daemon=True).start()
        until = time.monotonic() + PATIENCE
        for turn in turns:
            turn.thread.join(max(0.0, until - time.monotonic()))
        self.forget_warm()


def insist(turn: Turn, why: TurnEnded | None) -> None:
    """Stop a turn, also one that is only about to begin and forgets what it was told before."""
    while turn.thread.is_alive():
        if not turn.session.cancel_flag.is_set():
            turn.session.stop(why)
        turn.thread.join(0.05)
