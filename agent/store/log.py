"""The log of all sessions: events are appended, redacted, numbered without gaps, and only then seen by anybody.

`append` returns after the commit: an event somebody got back is there after SIGKILL, whoever else was writing. It
either happened or raised StoreError, never half. Threads and processes may use one home at the same time.
"""

import asyncio
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.errors import UserError
from agent.events import TYPES, Event
from agent.redact import Redactor
from agent.store import claims, export, export_html, search
from agent.store.claims import Claimed, Lease, Slot
from agent.store.database import Database, StoreError
from agent.store.encoding import dumps, readable_name, storable
from agent.store.follow import Keeper
from agent.store.search import Hit

FILE = "sessions.db"
LARGEST = 16 * 1024 * 1024
# These are forced to the disk before they count: money, promises and ends have to outlive a power cut too.
DURABLE = frozenset({"task", "approval", "job", "answer", "state"})
_PAGE = 500


@dataclass(frozen=True)
class Session:
    id: str
    title: str
    created: float
    updated: float
    model: str
    cwd: str
    owner: str
    state: str
    pinned: bool
    last_seq: int


_COLUMNS = "id, title, created, updated, model, cwd, owner, state, pinned, last_seq"


class Store:
    def __init__(self, database: Database, redactor: Redactor):
        self.redactor = redactor
        self._database = database
        self._keeper = Keeper(database)
        self._half_words: dict[str, tuple[tuple, str]] = {}

    @classmethod
    def open(cls, home: Path | str, redactor: Redactor | None = None) -> "Store":
        """Opens or makes the log in a home folder. A damaged or newer file is a UserError and stays as it is."""
        return cls(Database(Path(home).expanduser() / FILE), redactor or Redactor())

    def close(self) -> None:
        self._keeper.close()
        self._database.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # sessions

    def create_session(self, title: str = "", model: str = "", cwd: str = "", owner: str = "") -> Session:
        now = time.time()
        texts = [self._line(text) for text in (title, model, cwd, owner)]
        with self._database.write(durable=True) as connection:
            while True:
                name = readable_name()
                if not connection.execute("SELECT 1 FROM sessions WHERE id=?", (name,)).fetchone():
                    break
            connection.execute(
                f"INSERT INTO sessions({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, 'idle', 0, 0)",
                (name, texts[0], now, now, *texts[1:]),
            )
        return self.session(name)

    def session(self, name: str, owner: str | None = None) -> Session:
        """By id, or by the only id that begins so; another owner's session is as good as none."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM sessions WHERE (id=? OR substr(id, 1, ?)=?) AND (? IS NULL OR owner=?)"
                " ORDER BY id=? DESC LIMIT 2",
                (name, len(name), name, owner, owner, name),
            ).fetchall()
        if rows and name and (len(rows) == 1 or rows[0][0] == name):
            return _session(rows[0])
        if rows and name:
            raise UserError(f"Several sessions begin with {name!r}. Write the whole id; `sessions list` shows them.")
        raise UserError(f"There is no session {name!r}. `sessions list` shows those there are.")

    def sessions(self, search: str | None = None, owner: str | None = None, limit: int = 100) -> list[Session]:
        """Pinned ones first, then the newest; with `search`, those in which all its words occur."""
        return [_session(row) for row in self._find(search or "", owner, limit)]

    def search(self, query: str, owner: str | None = None, limit: int = 50) -> list[Hit]:
        with self._database.read() as connection:
            return search.hits(connection, query, self._database.fts, owner, limit)

    def rename(self, session: str, title: str) -> None:
        self._set(session, "title", self._line(title))

    def pin(self, session: str, pinned: bool = True) -> None:
        self._set(session, "pinned", int(pinned))

    def set_model(self, session: str, model: str) -> None:
        self._set(session, "model", self._line(model))

    def delete(self, session: str) -> bool:
        """Removes a session so that its text is in no file of the store any more. Not for a running session.

        False if another process, reading just now, kept old pages in the write-ahead log until its next checkpoint."""
        with self._database.write(durable=True) as connection:
            holder = claims.running_in(connection, session)
            if holder is not None:
                raise Claimed(f"Session {session} is being run by process {holder}. Stop it before you delete it.")
            connection.execute("DELETE FROM texts WHERE rowid IN (SELECT id FROM events WHERE session=?)", (session,))
            for table in ("events", "acts", "leases"):
                connection.execute(f"DELETE FROM {table} WHERE session=?", (session,))
            if connection.execute("DELETE FROM sessions WHERE id=?", (session,)).rowcount != 1:
                raise _unknown(session)
            if self._database.fts:  # only a merge drops deleted words from the index
                connection.execute("INSERT INTO texts(texts) VALUES('optimize')")
        self._half_words.pop(session, None)
        self._keeper.appended(session, 0)
        return self._database.forget_deleted()

    # events

    def append(self, session: str, type: str, data: dict[str, Any]) -> Event:
        return self.append_many(session, [(type, data)])[0]

    def append_many(self, session: str, items: Iterable[tuple[str, dict[str, Any]]]) -> list[Event]:
        """All of them in one transaction, in this order; what comes back is what everybody will read."""
        coded = [(type_, self._encode(type_, data)) for type_, data in items]
        if not coded:
            return []
        now = time.time()
        with self._database.write(durable=any(type_ in DURABLE for type_, _ in coded)) as connection:
            row = connection.execute("SELECT last_seq, title, state FROM sessions WHERE id=?", (session,)).fetchone()
            if row is None:
                raise _unknown(session)
            last, title, state = row
            events = []
            for seq, (type_, text) in enumerate(coded, start=last + 1):
                event = Event(session, seq, now, type_, json.loads(text))
                cursor = connection.execute(
                    "INSERT INTO events(session, seq, at, type, data) VALUES(?, ?, ?, ?, ?)",
                    (session, seq, now, type_, text),
                )
                if type_ in search.TYPES:
                    self._index(connection, cursor.lastrowid, event)
                if type_ == "state":
                    state = str(event.data.get("state", state))
                if type_ == "task" and not title:
                    title = self._line(str(event.data.get("text", "")))
                events.append(event)
            connection.execute(
                "UPDATE sessions SET last_seq=?, updated=?, title=?, state=? WHERE id=?",
                (events[-1].seq, now, title, state, session),
            )
        self._keeper.appended(session, events[-1].seq)
        return events

    def read(self, session: str, after: int = 0, limit: int = 1000) -> list[Event]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT seq, at, type, data FROM events WHERE session=? AND seq>? ORDER BY seq LIMIT ?",
                (session, after, limit),
            ).fetchall()
        return [Event(session, seq, at, type_, json.loads(data)) for seq, at, type_, data in rows]

    def all(self, session: str, after: int = 0) -> Iterator[Event]:
        """Everything there is now, page by page."""
        while page := self.read(session, after, _PAGE):
            yield from page
            after = page[-1].seq

    def follow(self, session: str, after: int = 0, stop: threading.Event | None = None) -> Iterator[Event]:
        """What is there and what comes, until `stop` is set (seen in a quarter second) or the session is deleted."""
        bell = threading.Event()
        with self._keeper.listening(session, bell.set):
            while stop is None or not stop.is_set():
                bell.clear()
                page = self.read(session, after, _PAGE)
                for event in page:
                    yield event
                    after = event.seq
                if not page:
                    if not self._exists(session):
                        return
                    bell.wait(0.25)

    async def pages(self, session: str, after: int = 0, limit: int = _PAGE) -> AsyncIterator[list[Event]]:
        """The same for an event loop, in pages; cancel the task to end it. One that is not full tells that the reader
        has caught up; the first may be empty."""
        loop, bell, first = asyncio.get_running_loop(), asyncio.Event(), True
        with self._keeper.listening(session, _rings(loop, bell)):
            while True:
                bell.clear()
                page = await asyncio.to_thread(self.read, session, after, limit)
                if page or first:
                    yield page
                    after, first = page[-1].seq if page else after, False
                if not page and not await asyncio.to_thread(self._exists, session):
                    return
                if len(page) < limit:
                    await bell.wait()

    def export_markdown(self, session: str) -> str:
        return self.redactor.text(export.markdown(asdict(self.session(session)), self.all(session)))

    def export_jsonl(self, session: str) -> str:
        clean = (
            Event(e.session, e.seq, e.at, e.type, self.redactor.value(e.data)) for e in self.all(session)
        )  # again: a secret may have been registered after it was written
        return export.json_lines(asdict(self.session(session)), clean)

    def export_html(self, session: str, picture: export_html.Picture = lambda path: None) -> str:
        """`picture` gives the bytes of an artifact that may stand in the page."""
        return self.redactor.text(export_html.page(asdict(self.session(session)), self.all(session), picture))

    # promises

    def claim(self, session: str) -> Lease:
        """The right to run a session; Claimed if another living process has it."""
        if not self._exists(session):
            raise _unknown(session)
        lease = claims.claim(self._database, session)
        self._keeper.guard(lease)
        return lease

    def running(self, session: str) -> bool:
        """Whether a living process runs it. A session in state "running" for which this is False was lost."""
        with self._database.read() as connection:
            return claims.running_in(connection, session) is not None

    def once(self, key: str, session: str | None = None) -> Slot:
        """For an act that must not happen twice, by a key that is the same when it is tried again.

        Only the key's hash is stored: it may hold anything, and it stays the same whatever is registered as secret."""
        return claims.once(self._database, self._json, hashlib.sha256(key.encode()).hexdigest(), session)

    # inside

    def _json(self, value: Any) -> str:
        text = dumps(self.redactor.value(value))
        if len(text) > LARGEST:
            raise StoreError(
                f"An event of {len(text):,} characters is too large for the log. Keep it in a file.", "large"
            )
        return text

    def _encode(self, type: str, data: dict[str, Any]) -> str:
        if type not in TYPES:
            raise ValueError(f"unknown event type {type!r}")
        return self._json(data)

    def _line(self, text: str) -> str:
        line = storable(self.redactor.text(" ".join(text.split())))
        return line if len(line) <= 200 else f"{line[:199]}…"

    def _index(self, connection: sqlite3.Connection, rowid: int | None, event: Event) -> None:
        """A word that streaming cut in two is found whole: the second half is indexed with the first before it."""
        text = str(event.data.get("text") or "") or (dumps(event.data["envelope"]) if "envelope" in event.data else "")
        stream = (event.type, event.data.get("step"), event.data.get("stream"))
        before = self._half_words.get(event.session)
        if before and before[0] == stream:
            text = self.redactor.text(before[1] + text)
        self._half_words[event.session] = stream, search.last_word(text)
        connection.execute("INSERT INTO texts(rowid, text, session) VALUES(?, ?, ?)", (rowid, text, event.session))

    def _set(self, session: str, column: str, value: Any) -> None:
        with self._database.write() as connection:
            if connection.execute(f"UPDATE sessions SET {column}=? WHERE id=?", (value, session)).rowcount != 1:
                raise _unknown(session)

    def _exists(self, session: str) -> bool:
        with self._database.read() as connection:
            return connection.execute("SELECT 1 FROM sessions WHERE id=?", (session,)).fetchone() is not None

    def _find(self, query: str, owner: str | None, limit: int) -> list[tuple]:
        conditions, values = ["(? IS NULL OR owner=?)"], [owner, owner]
        for word in search.words(query):
            condition, value = search.matching(word, self._database.fts)
            found = f"id IN (SELECT session FROM texts WHERE {condition})"
            conditions.append(f"(title || ' ' || id LIKE ? ESCAPE '\\' OR {found})")
            values += [search.like(word), value]
        with self._database.read() as connection:
            return connection.execute(
                f"SELECT {_COLUMNS} FROM sessions WHERE {' AND '.join(conditions)}"
                " ORDER BY pinned DESC, updated DESC LIMIT ?",
                (*values, limit),
            ).fetchall()


def _session(row: tuple) -> Session:
    return Session(*(*row[:8], bool(row[8]), row[9]))


def _unknown(session: str) -> StoreError:
    return StoreError(f"There is no session {session!r}, or it was deleted.", "gone")


def _rings(loop: asyncio.AbstractEventLoop, bell: asyncio.Event) -> Callable[[], None]:
    def ring() -> None:
        try:
            loop.call_soon_threadsafe(bell.set)
        except RuntimeError:
            pass  # the loop is closed: nobody listens any more

    return ring
