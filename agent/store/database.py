"""The SQLite file under the store: one writer per process, pooled readers, errors with words, schema by migrations.

WAL with synchronous=NORMAL: what was committed outlives the death of the process, however it died. Only `durable`
writes are forced to the disk before they return (and with them all earlier ones): on a power cut the last moments of
other writes may be missing, as if they never happened, never torn. A damaged or newer file is refused, never touched.
"""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import Trouble, UserError

PATIENCE = 30.0  # seconds to wait for another process that writes
APPLICATION = 0x4D534D31  # marks the file as ours

MIGRATIONS: list[list[str]] = [
    [
        """CREATE TABLE sessions(
            id TEXT PRIMARY KEY, title TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL, model TEXT NOT NULL,
            cwd TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL, pinned INTEGER NOT NULL DEFAULT 0,
            last_seq INTEGER NOT NULL DEFAULT 0)""",
        "CREATE INDEX sessions_by_owner ON sessions(owner, updated)",
        """CREATE TABLE events(
            id INTEGER PRIMARY KEY, session TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, type TEXT NOT NULL,
            data TEXT NOT NULL, UNIQUE(session, seq))""",
        """CREATE TABLE leases(
            session TEXT PRIMARY KEY, token TEXT NOT NULL, place TEXT NOT NULL, pid INTEGER NOT NULL,
            born TEXT NOT NULL, beat REAL NOT NULL)""",
        """CREATE TABLE acts(
            key TEXT PRIMARY KEY, session TEXT, state TEXT NOT NULL, begun REAL NOT NULL, finished REAL, result TEXT,
            token TEXT NOT NULL, place TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL)""",
        "CREATE INDEX acts_by_session ON acts(session)",
        "{texts}",
    ],
]
TEXTS_FTS = """CREATE VIRTUAL TABLE texts USING fts5(
    text, session UNINDEXED, tokenize="unicode61 remove_diacritics 2")"""
TEXTS_PLAIN = "CREATE TABLE texts(text TEXT NOT NULL, session TEXT NOT NULL)"


class StoreError(Trouble):
    """The log could not be written or read, in one line. `kind`: full, read-only, busy, damaged, large, gone, disk."""

    def __init__(self, text: str, kind: str):
        super().__init__(text)
        self.kind = kind


def _explain(error: sqlite3.Error, path: Path) -> StoreError:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    kind, what, cure = {
        sqlite3.SQLITE_FULL: ("full", "the disk is full", "Free some space and go on; nothing was half written."),
        sqlite3.SQLITE_READONLY: ("read-only", "the file can't be written", "Check its owner and the mount."),
        sqlite3.SQLITE_BUSY: ("busy", "another process holds it", "Look for a stuck process that has it open."),
        sqlite3.SQLITE_CORRUPT: ("damaged", "the file is damaged", "Keep it, and save what can be read: .recover"),
        sqlite3.SQLITE_NOTADB: ("damaged", "it is not a database", "Move it away, or restore a copy."),
        sqlite3.SQLITE_CANTOPEN: ("disk", "it can't be opened", "Check the folder's owner and that it exists."),
    }.get(code, ("disk", str(error), "Check the disk."))
    return StoreError(f"Session log {path}: {what}. {cure}", kind)


def has_fts5(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("CREATE VIRTUAL TABLE temp.probe USING fts5(x)")
        connection.execute("DROP TABLE temp.probe")
    except sqlite3.OperationalError:
        return False
    return True


class Database:
    """Connections to one file. Threads share it; a forked child has to open its own."""

    def __init__(self, path: Path):
        self.path = path
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        try:
            _create_private(path)
            self._writer = self.connect()
        except sqlite3.Error as error:
            raise _refusal(error, path) from error
        except OSError as error:
            kind = {errno.ENOSPC: "full", errno.EROFS: "read-only", errno.EACCES: "read-only"}.get(
                error.errno or 0, "disk"
            )
            text = f"Session log {path}: {error.strerror}. Check the folder, its owner, the disk."
            raise StoreError(text, kind) from error
        try:
            _prepare(self._writer, path)
            self.fts = "fts5" in self._writer.execute("SELECT sql FROM sqlite_master WHERE name='texts'").fetchone()[0]
            if self.fts and not has_fts5(self._writer):
                raise UserError(f"{path} needs an SQLite with FTS5, which this Python lacks. Use another Python.")
        except sqlite3.Error as error:
            self._writer.close()
            raise _refusal(error, path) from error
        except UserError:
            self._writer.close()
            raise

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA secure_delete=ON")
        return connection

    @contextmanager
    def write(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is there when the block is left, or none of it and an error is raised."""
        with self._lock:
            self._check()
            connection = self._writer
            try:
                if durable:
                    connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise _explain(error, self.path) from error
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if durable:
                    connection.execute("PRAGMA synchronous=NORMAL")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        self._check()
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self.connect()
            try:
                yield connection
            finally:
                self._idle.append(connection)
                if self._closed:
                    self.close()
        except sqlite3.Error as error:
            raise _explain(error, self.path) from error

    def forget_deleted(self) -> bool:
        """Moves the write-ahead log into the file and empties it, so that deleted rows are in neither.

        False if a reader of another process stood in the way; the next checkpoint does it then."""
        with self._lock:
            self._check()
            self._writer.execute("PRAGMA busy_timeout=2000")
            try:
                return self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
            except sqlite3.Error as error:
                raise _explain(error, self.path) from error
            finally:
                self._writer.execute(f"PRAGMA busy_timeout={int(PATIENCE * 1000)}")

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        with self._lock:
            self._writer.close()

    def _check(self) -> None:
        if self._closed:
            raise StoreError(f"Session log {self.path}: it was closed.", "gone")
        if os.getpid() != self._pid:
            raise StoreError(f"Session log {self.path}: opened before a fork. Open it again in this process.", "gone")


def _create_private(path: Path) -> None:
    """Transcripts are nobody else's business: the file is born 0600, SQLite gives its companions the same mode."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        path.parent.chmod(0o700)
    elif not any(path.parent.iterdir()):
        path.parent.chmod(0o700)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    elif path.stat().st_mode & 0o077 and path.stat().st_uid == os.getuid():
        path.chmod(0o600)


def _refusal(error: sqlite3.Error, path: Path) -> Exception:
    explained = _explain(error, path)
    if explained.kind != "damaged":
        return explained
    return UserError(
        f"{path} is damaged ({error}); it was left as it is. Move it away to start fresh; to save what can be read: "
        f"sqlite3 {path} .recover | sqlite3 saved.db"
    )


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    if tables and "migrations" not in tables:
        raise UserError(f"{path} is some other program's database. Move it away, or set MODELSMITH_HOME elsewhere.")
    if tables:
        _refuse_newer(connection, path)
    _wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS migrations(version INTEGER PRIMARY KEY, at REAL NOT NULL)")
        _refuse_newer(connection, path)
        done = connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()[0]
        for version, statements in enumerate(MIGRATIONS[done:], start=done + 1):
            for statement in statements:
                texts = TEXTS_FTS if has_fts5(connection) else TEXTS_PLAIN
                connection.execute(texts if statement == "{texts}" else statement)
            connection.execute("INSERT INTO migrations VALUES(?, ?)", (version, time.time()))
        if done == 0:
            connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    # Cheap looks that notice a cut file; a damage deeper inside shows when it is read.
    connection.execute("SELECT * FROM sessions ORDER BY rowid DESC LIMIT 1").fetchone()
    connection.execute("SELECT * FROM events ORDER BY id DESC LIMIT 1").fetchone()


def _refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()[0]
    if version > len(MIGRATIONS):
        raise UserError(
            f"{path} was written by a newer Modelsmith (schema {version}, this one knows {len(MIGRATIONS)}). "
            "Update Modelsmith, or set MODELSMITH_HOME elsewhere."
        )


def _wal(connection: sqlite3.Connection) -> None:
    """Several processes may open a new file at once; SQLite does not wait by itself when the mode changes."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            # A file system without shared memory keeps its rollback journal: slower, just as safe.
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
