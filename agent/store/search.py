"""Full-text search over what was asked, answered, written and printed.

Every word of a query must occur somewhere in the session, as the beginning of a word. SQLite's FTS5 does it where it is
built in; scripts without spaces between words, and an SQLite without FTS5, are searched by LIKE.
"""

import re
import sqlite3
from dataclasses import dataclass

TYPES = frozenset({"task", "answer", "code", "output"})
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_LAST_WORD = re.compile(r"\w+\Z")
_LONGEST_HALF = 64  # characters of a cut word that are indexed again with its second half


@dataclass(frozen=True)
class Hit:
    session: str
    seq: int
    type: str
    snippet: str


def words(query: str) -> list[str]:
    return [word for word in query.split() if re.search(r"\w", word)][:20]


def last_word(text: str) -> str:
    """The beginning of a word that the next piece of a stream may continue."""
    found = _LAST_WORD.search(text[-_LONGEST_HALF:])
    return found.group() if found else ""


def matching(word: str, fts: bool) -> tuple[str, str]:
    """A condition on the table of texts, and its value."""
    if fts and not _UNSPACED.search(word):
        return "texts MATCH ?", '"' + word.replace('"', '""') + '"*'
    return "text LIKE ? ESCAPE '\\'", like(word)


def like(word: str) -> str:
    return "%" + re.sub(r"([\\%_])", r"\\\1", word) + "%"


def hits(connection: sqlite3.Connection, query: str, fts: bool, owner: str | None, limit: int) -> list[Hit]:
    """The newest events in which a word of the query occurs."""
    found: dict[tuple[str, int], Hit] = {}
    for word in words(query):
        condition, value = matching(word, fts)
        rows = connection.execute(
            "SELECT e.session, e.seq, e.type, t.text FROM"
            f" (SELECT rowid AS at, text FROM texts WHERE {condition} ORDER BY rowid DESC LIMIT ?) t"
            " JOIN events e ON e.id = t.at JOIN sessions s ON s.id = e.session WHERE (? IS NULL OR s.owner = ?)",
            (value, limit * 5 if owner else limit, owner, owner),
        )
        for session, seq, type_, text in rows:
            found.setdefault((session, seq), Hit(session, seq, type_, _around(text, word)))
    return list(found.values())[:limit]


def _around(text: str, word: str) -> str:
    at = max(0, text.lower().find(word.lower()))
    start, end = max(0, at - 60), at + len(word) + 100
    return f"{'…' if start else ''}{' '.join(text[start:end].split())}{'…' if end < len(text) else ''}"
