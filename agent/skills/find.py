"""Where skills lie, and which of one name counts.

The order: the project's `skills/` and `.agents/skills`, the home's `skills`, those that come with the program, and the
`~/.agents/skills` that other agents share. The first of a name wins, except that a skill nobody trusts never takes the
place of a trusted one.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import trust
from .files import PROVENANCE, SKIPPED, digest
from .read import has_skill, load
from .skill import Note, Refused, Skill

BUILT_IN = Path(__file__).parents[2] / "skills"
DEPTH_MOST = 4
FOLDERS_MOST = 2000


@dataclass(frozen=True)
class Root:
    path: Path
    source: str
    fence: Path | None = None  # links that leave it are not followed; None: the person made the links


@dataclass(frozen=True)
class Problem:
    folder: Path
    why: str


@dataclass
class Found:
    skills: list[Skill] = field(default_factory=list)  # by name
    shadowed: list[Skill] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def roots(cwd: Path, home: Path) -> list[Root]:
    return [
        Root(cwd / "skills", "project", fence=cwd),
        Root(cwd / ".agents" / "skills", "project", fence=cwd),
        Root(home / "skills", "home"),
        Root(BUILT_IN, "built-in"),
        Root(Path.home() / ".agents" / "skills", "agents"),
    ]


def find(cwd: Path, home: Path) -> Found:
    found = Found()
    trusted = set(trust.known(home))
    seen: set[Path] = set()
    candidates: list[Skill] = []
    for root in roots(cwd, home):
        for folder in folders(root, found.problems):
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            try:
                candidates.append(read_one(folder, root.source, trusted))
            except Refused as error:
                found.problems.append(Problem(folder, str(error)))
    choose(candidates, found)
    return found


def read_one(folder: Path, source: str, trusted: set[str]) -> Skill:
    if folder.resolve().is_relative_to(BUILT_IN):
        return load(folder, "built-in", trusted=True)
    asked = source == "project" or (folder / PROVENANCE).exists()
    return load(folder, source, trusted=not asked or digest(folder) in trusted)


def choose(candidates: list[Skill], found: Found) -> None:
    """Trusted before untrusted, and else in the order in which they were found."""
    chosen: dict[str, Skill] = {}
    for skill in sorted(candidates, key=lambda skill: not skill.trusted):
        first = chosen.setdefault(skill.name, skill)
        if first is not skill:
            note = Note(f"{first.folder} has the same name and counts", breaks=False)
            found.shadowed.append(replace(skill, notes=(*skill.notes, note)))
    found.skills = [chosen[name] for name in sorted(chosen)]


def folders(root: Root, problems: list[Problem]) -> Iterator[Path]:
    """Every folder with a SKILL.md, a few levels deep; what lies below one of them belongs to it."""
    waiting, visited = [(root.path, 0)], 0
    seen: set[Path] = set()
    while waiting:
        here, depth = waiting.pop()
        real = here.resolve()
        if not here.is_dir() or real in seen:
            continue
        if root.fence and not real.is_relative_to(root.fence.resolve()):
            problems.append(Problem(here, "it is a link that leads out of the project. Copy the folder itself there."))
            continue
        seen.add(real)
        visited += 1
        if visited > FOLDERS_MOST:
            problems.append(Problem(root.path, f"only the first {FOLDERS_MOST} folders were looked at. Tidy it up."))
            return
        if depth and has_skill(here):
            yield here
        elif depth < DEPTH_MOST:
            waiting += [(child, depth + 1) for child in reversed(children(here))]


def children(folder: Path) -> list[Path]:
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if name not in SKIPPED and not name.startswith(".")]
