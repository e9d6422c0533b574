"""Which skills a person switched off, by name, in a list in the home folder. No session sees them until switched on."""

import json
from pathlib import Path

from . import trust

FILE = "skills-off.json"


def known(home: Path) -> set[str]:
    try:
        found = json.loads((home / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return set()
    return {name for name in found if isinstance(name, str)} if isinstance(found, list) else set()


def switch(home: Path, name: str, on: bool) -> None:
    names = known(home) - {name} if on else known(home) | {name}
    trust.write(home / FILE, json.dumps(sorted(names), indent=2) + "\n")
