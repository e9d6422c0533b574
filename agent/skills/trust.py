"""Which skills the person trusts: by what is in them, so that a changed skill must be trusted anew.

Built-in skills are trusted, and so are those that the person laid into a folder of their own by hand. A skill of the
project at hand, or one that was added from elsewhere, is not until its digest stands in the home's list.
"""

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import UserError

FILE = "trusted-skills.json"


def known(home: Path) -> dict[str, dict[str, str]]:
    """Digest to name and date. A list that does not read trusts nothing."""
    try:
        found = json.loads((home / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def add(home: Path, name: str, digest: str | None) -> None:
    if digest is None:
        raise UserError(f"{name} cannot be summed up: it has links that lead out, or too much in it. Tidy its folder.")
    entry = {"name": name, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    write(home / FILE, json.dumps(known(home) | {digest: entry}, indent=2) + "\n")


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
