"""What a skill is once it is read, and the limits that the written standard sets.

A note says what is odd about a folder; one that `breaks` the standard makes strict validation fail, the others are
advice. A folder that cannot be used at all is `Refused`.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import UserError

FIELDS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
NAME_MOST = 64
DESCRIPTION_MOST = 1024
COMPATIBILITY_MOST = 500
BODY_TOKENS = 5000  # the standard's advice for one body
BODY_LINES = 500

INSIDE = "/home/user/.skills"  # where a sandbox sees the folders of all skills, read-only


class Refused(UserError):
    """Why a folder is no skill that could be used."""


@dataclass(frozen=True)
class Note:
    text: str
    breaks: bool = True


@dataclass(frozen=True)
class Skill:
    """`trusted` is decided by where the folder lies and by what the person said, never by the folder itself."""

    name: str
    description: str
    folder: Path
    text: str = field(repr=False)  # SKILL.md without its frontmatter
    source: str = "folder"
    trusted: bool = False
    notes: tuple[Note, ...] = ()
    allowed_tools: tuple[str, ...] = ()
    license: str = ""
    compatibility: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    triggers: tuple[str, ...] = field(default=(), repr=False)  # requests that should call it
    false_friends: tuple[str, ...] = field(default=(), repr=False)  # and that should not, though they sound like it

    @property
    def warnings(self) -> list[str]:
        return [note.text for note in self.notes]

    @property
    def inside(self) -> str:
        """Its folder as the sandbox sees it."""
        return f"{INSIDE}/{self.name}"


def tokens(text: str) -> int:
    """A careful estimate that needs no tokenizer: English is nearer to four bytes a token."""
    return math.ceil(len(text.encode("utf-8", "replace")) / 3.5)
