"""Who is signed in: the hash of each cookie's token, whose it is, until when. In the home folder, for its owner alone.

A stolen file signs nobody in. A person's own token at the Hub lies here too where they came in with it, and nowhere
else: no cookie, page, log or sandbox ever holds it.
"""

import hashlib
import secrets
import sqlite3
import threading
import time
from pathlib import Path

from pydantic import SecretStr

from agent.ui.people import Person

FILE = "logins.db"
LASTS = 14 * 24 * 3600
TABLE = """CREATE TABLE IF NOT EXISTS logins(
    hash TEXT PRIMARY KEY, name TEXT NOT NULL, shown TEXT NOT NULL, token TEXT, made REAL NOT NULL,
    until REAL NOT NULL)"""


class Logins:
    def __init__(self, home: Path):
        path = home / FILE
        path.touch(mode=0o600)
        path.chmod(0o600)
        self.lock = threading.Lock()
        self.connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA secure_delete=ON")
        self.connection.execute(TABLE)

    def enter(self, person: Person, lasts: float = LASTS) -> str:
        """The token for the cookie. It is nowhere kept."""
        token, now = secrets.token_urlsafe(32), time.time()
        own = person.token.get_secret_value() if person.token else None
        with self.lock:
            self.connection.execute("DELETE FROM logins WHERE until < ?", (now,))
            self.connection.execute(
                "INSERT INTO logins VALUES(?, ?, ?, ?, ?, ?)",
                (hashed(token), person.name, person.shown, own, now, now + lasts),
            )
        return token

    def find(self, token: str) -> Person | None:
        return self._one("hash = ?", hashed(token))

    def known(self, name: str) -> Person | None:
        """Who of that name is signed in anywhere, the last one first."""
        return self._one("name = ?", name)

    def _one(self, condition: str, value: str) -> Person | None:
        with self.lock:
            row = self.connection.execute(
                f"SELECT name, shown, token FROM logins WHERE {condition} AND until > ? ORDER BY made DESC LIMIT 1",
                (value, time.time()),
            ).fetchone()
        return Person(row[0], row[1], SecretStr(row[2]) if row[2] else None) if row else None

    def leave(self, token: str) -> None:
        with self.lock:
            self.connection.execute("DELETE FROM logins WHERE hash = ?", (hashed(token),))

    def keep_only(self, names: set[str]) -> None:
        """Who was taken off the list is signed out."""
        with self.lock:
            marks = ", ".join("?" * len(names))
            self.connection.execute(f"DELETE FROM logins WHERE name NOT IN ({marks})", tuple(names))

    def close(self) -> None:
        with self.lock:
            self.connection.close()


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
