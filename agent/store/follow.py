"""Wakes the readers of a session: at once for appends of this process, within 50 ms for those of another one.

One thread per store, alive only while somebody follows or holds a claim. It asks SQLite for a counter (`data_version`)
that moves when another connection commits, and beats the hearts of this process's claims.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.store.claims import Lease
from agent.store.database import Database, StoreError

POLL = 0.025
BEAT = 5.0
log = logging.getLogger(__name__)
Ring = Callable[[], object]


class Keeper:
    def __init__(self, database: Database):
        self._database = database
        self._wake = threading.Condition()
        self._rings: dict[str, set[Ring]] = {}
        self._seen: dict[str, int] = {}  # the last seq that a session's followers were woken for
        self._fresh = False  # a follower came: compare once even if nothing moved
        self._leases: set[Lease] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def listening(self, session: str, ring: Ring) -> Iterator[None]:
        """Calls `ring` from any thread when the session has grown or is gone."""
        with self._wake:
            self._rings.setdefault(session, set()).add(ring)
            self._fresh = True
            self._start()
        try:
            yield
        finally:
            with self._wake:
                self._rings[session].discard(ring)
                if not self._rings[session]:
                    del self._rings[session]
                    self._seen.pop(session, None)

    def appended(self, session: str, seq: int) -> None:
        with self._wake:
            rings = tuple(self._rings.get(session, ()))
            if rings:
                self._seen[session] = max(seq, self._seen.get(session, 0))
        for ring in rings:
            ring()

    def guard(self, lease: Lease) -> None:
        with self._wake:
            self._leases.add(lease)
            self._start()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="store-keeper", daemon=True)
            self._thread.start()
        self._wake.notify()

    def _run(self) -> None:
        connection = self._database.connect()
        version, next_beat = -1, time.monotonic() + BEAT
        try:
            while True:
                with self._wake:
                    if not self._closed:
                        self._wake.wait(POLL if self._rings else BEAT)
                    self._leases = {lease for lease in self._leases if not lease.released}
                    if self._closed or not (self._rings or self._leases):
                        self._thread = None
                        return
                    fresh, self._fresh = self._fresh, False
                    watched, leases = list(self._rings), list(self._leases)
                try:
                    now = connection.execute("PRAGMA data_version").fetchone()[0]
                    if watched and (fresh or now != version):
                        self._compare(connection, watched)
                    version = now
                    if time.monotonic() >= next_beat:
                        next_beat = time.monotonic() + BEAT
                        for lease in leases:
                            lease.beat()
                except (sqlite3.Error, StoreError):
                    # A follower that reads for itself gets the same error, with words, in its own thread.
                    log.warning("the session log could not be watched", exc_info=True)
                    self._ring(watched)
        finally:
            connection.close()

    def _compare(self, connection: sqlite3.Connection, watched: list[str]) -> None:
        grown = []
        for session in watched:
            row = connection.execute("SELECT last_seq FROM sessions WHERE id=?", (session,)).fetchone()
            with self._wake:
                if row is None or self._seen.get(session) is None or self._seen[session] < row[0]:
                    grown.append(session)
                    if session in self._rings:
                        self._seen[session] = row[0] if row else 0
        self._ring(grown)

    def _ring(self, sessions: list[str]) -> None:
        with self._wake:
            rings = [ring for session in sessions for ring in self._rings.get(session, ())]
        for ring in rings:
            ring()
