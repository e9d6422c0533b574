"""Who runs a session, and which paid acts were begun: the two promises that need more than an append.

A claim belongs to a process (pid and its start time); one whose process is gone is taken over at once, one from another
container after 30 silent seconds. A paid act is written down, on the disk, before it is done: an act that was begun and
never finished is told as unknown and is never done again by itself.
"""

import json
import os
import sqlite3
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.errors import UserError
from agent.store.database import Database, StoreError

SILENCE = 30.0
Encode = Callable[[Any], str]  # a value as JSON, without secrets
_live: set[str] = set()  # tokens of this process that are still in somebody's hands


class Claimed(UserError):
    """Another process runs this session."""


@dataclass(frozen=True)
class _Process:
    place: str
    pid: int
    born: str


def _here() -> str:
    """Process ids only mean something within one boot and one pid namespace."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"host {uuid.getnode()}"


def _born(pid: int) -> str:
    """When a process started; empty if there is none. Tells a process from a later one with the same id."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    return subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()


def _me() -> _Process:
    return _Process(_here(), os.getpid(), _born(os.getpid()))


def _alive(process: _Process, token: str) -> bool | None:
    """None: it lives in another container or host, nobody here can tell."""
    me = _me()
    if process.place != me.place:
        return None
    if process == me:
        return token in _live
    return bool(process.born) and _born(process.pid) == process.born


class Lease:
    """The exclusive right to run a session, until released. Use it as a context manager.

    `inherited`: when the process whose death left it was last alive, within some seconds; 0 if it was given back."""

    def __init__(self, database: Database, session: str, token: str, inherited: float):
        self.session, self.token, self.inherited, self.released = session, token, inherited, False
        self._database = database

    def held(self) -> bool:
        """False once another process took over, which only happens to one that was silent for long."""
        with self._database.read() as connection:
            row = connection.execute("SELECT token FROM leases WHERE session=?", (self.session,)).fetchone()
        return row is not None and row[0] == self.token

    def beat(self) -> None:
        with self._database.write() as connection:
            connection.execute(
                "UPDATE leases SET beat=? WHERE session=? AND token=?", (time.time(), self.session, self.token)
            )

    def release(self) -> None:
        self.released = True
        _live.discard(self.token)
        with self._database.write() as connection:
            connection.execute("DELETE FROM leases WHERE session=? AND token=?", (self.session, self.token))

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def claim(database: Database, session: str) -> Lease:
    me, token = _me(), uuid.uuid4().hex
    with database.write() as connection:
        holder = running_in(connection, session)
        if holder is not None:
            raise Claimed(f"Session {session} is being run by process {holder}. Stop it there, or wait for its end.")
        row = connection.execute("SELECT beat FROM leases WHERE session=?", (session,)).fetchone()
        connection.execute(
            "INSERT OR REPLACE INTO leases VALUES(?, ?, ?, ?, ?, ?)",
            (session, token, me.place, me.pid, me.born, time.time()),
        )
        _live.add(token)
    return Lease(database, session, token, row[0] if row else 0.0)


def running_in(connection: sqlite3.Connection, session: str) -> int | None:
    """The pid of the living process that runs a session."""
    row = connection.execute("SELECT token, place, pid, born, beat FROM leases WHERE session=?", (session,)).fetchone()
    if row is None:
        return None
    token, place, pid, born, beat = row
    alive = _alive(_Process(place, pid, born), token)
    if alive is None:
        alive = time.time() - beat < SILENCE
    return pid if alive else None


class Slot:
    """One paid act. `state`: "new" (do it, then `finish`), "running" (somebody is at it), "done" (`result` is there),
    "unknown" (it was begun and nobody knows how it ended: look, then `finish` or `abandon`)."""

    def __init__(self, database: Database, encode: Encode, key: str, state: str, result: Any, begun: float, token: str):
        self.key, self.state, self.result, self.begun = key, state, result, begun
        self._database, self._encode, self._token = database, encode, token
        self._mine = threading.Lock()

    def finish(self, result: Any = None) -> None:
        """It was done, and this came out. What is written here is what every later asker gets."""
        text = self._encode(result)
        self._settle("UPDATE acts SET state='done', finished=?, result=?", (time.time(), text))
        self.state, self.result = "done", json.loads(text)

    def abandon(self) -> None:
        """It certainly did not happen: the next one to ask may do it."""
        self._settle("DELETE FROM acts", ())
        self.state = "abandoned"

    def lose(self) -> None:
        """Nobody can say whether it happened."""
        self._settle("UPDATE acts SET state='unknown'", ())
        self.state = "unknown"

    def _settle(self, change: str, values: tuple) -> None:
        with self._mine:
            if self.state not in ("new", "unknown"):
                raise StoreError(f"Act {self.key} is {self.state}: it can't be settled from here.", "gone")
            with self._database.write(durable=True) as connection:
                where = " WHERE key=? AND token=? AND state!='done'"
                if connection.execute(change + where, (*values, self.key, self._token)).rowcount != 1:
                    raise StoreError(f"Act {self.key} was settled by somebody else.", "gone")
            _live.discard(self._token)

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.state == "new":
            self.lose()


def once(database: Database, encode: Encode, key: str, session: str | None) -> Slot:
    me, token = _me(), uuid.uuid4().hex
    with database.write(durable=True) as connection:
        row = connection.execute(
            "SELECT state, result, begun, token, place, pid, born FROM acts WHERE key=?", (key,)
        ).fetchone()
        if row is None:
            now = time.time()
            connection.execute(
                "INSERT INTO acts VALUES(?, ?, 'running', ?, NULL, NULL, ?, ?, ?, ?)",
                (key, session, now, token, me.place, me.pid, me.born),
            )
            _live.add(token)
            return Slot(database, encode, key, "new", None, now, token)
    state, result, begun, token, place, pid, born = row
    if state == "running" and not _alive(_Process(place, pid, born), token):
        state = "unknown"
    return Slot(database, encode, key, state, json.loads(result) if result else None, begun, token)
