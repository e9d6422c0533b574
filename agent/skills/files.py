"""The files of a skill's folder: listed, read and summed up without ever leaving the folder.

A link that leads out is not followed: it is named, and whoever asks for it is refused.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from agent.errors import UserError

PROVENANCE = ".provenance.json"
SKIPPED = {".git", "node_modules", "__pycache__", ".DS_Store", PROVENANCE}
FILES_MOST = 1000
READ_MOST = 32_000  # characters a call
FILE_MOST = 8 * 1024 * 1024


class TooMany(UserError):
    """More files than a skill has."""


def entries(folder: Path) -> Iterator[Path]:
    """All that is no directory, links too, in an order that does not depend on the disk."""
    seen = 0
    for here, folders, names in os.walk(folder):
        linked = [name for name in folders if (Path(here) / name).is_symlink()]
        folders[:] = sorted(set(folders) - SKIPPED - set(linked))
        for name in sorted({*names, *linked} - SKIPPED):
            seen += 1
            if seen > FILES_MOST:
                raise TooMany(f"{folder.name} holds more than {FILES_MOST} files. Remove what the skill does not need.")
            yield Path(here) / name


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path ends up inside the folder, all links followed."""
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return False


def listing(folder: Path) -> list[str]:
    """The files that `read` gives, relative to the folder; of too many, the first."""
    found = []
    try:
        for path in entries(folder):
            if path.is_file() and is_inside(path, folder):
                found.append(path.relative_to(folder).as_posix())
    except TooMany:
        pass
    return found


def links_out(folder: Path) -> list[str]:
    found = [path for path in entries(folder) if path.is_symlink() and not is_inside(path, folder)]
    return [path.relative_to(folder).as_posix() for path in found]


def read(folder: Path, path: str, offset: int = 0) -> str:
    """Up to 32,000 characters of a text file of the folder; a directory gives the list of its files."""
    target = folder / path.removeprefix("./")
    if "\0" in path or not is_inside(target, folder):
        raise UserError(f"there is no file '{path}' in {folder.name}. {there_is(folder)}")
    real = target.resolve()
    if real.is_dir():
        return "\n".join(listing(real))
    if not real.is_file():
        raise UserError(f"'{path}' is no regular file. {there_is(folder)}")
    size = real.stat().st_size
    if size > FILE_MOST:
        raise UserError(f"'{path}' is too large to be read here ({size:,} bytes). Open it from code in the sandbox.")
    try:
        text = real.read_text("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"'{path}' is no text ({size:,} bytes). Open it from code in the sandbox.") from None
    piece = text[offset : offset + READ_MOST]
    rest = len(text) - offset - len(piece)
    return piece if rest <= 0 else f"{piece}\n… {rest:,} more characters; read on from offset {offset + len(piece)}"


def there_is(folder: Path, most: int = 20) -> str:
    names = listing(folder)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"It has: {', '.join(names[:most])}{more}."


def digest(folder: Path) -> str | None:
    """One number for names and contents; None where that cannot be said: links out, too much, unreadable."""
    total = hashlib.sha256()
    try:
        for path in entries(folder):
            if not (path.is_file() and is_inside(path, folder)) or path.stat().st_size > FILE_MOST:
                return None
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode("utf-8", "surrogateescape"))
    except (OSError, TooMany):
        return None
    return f"sha256:{total.hexdigest()}"
