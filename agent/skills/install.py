"""A skill's way into the home folder and out of it: looked at, copied, moved into place in one step, with a note of
where it came from.

What comes in are regular files without any right to be executed, and links inside the folder as the files they name.
"""

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.errors import UserError

from . import files, trust
from .fetch import Brought
from .read import check, load
from .skill import Skill

SCRIPT_SUFFIXES = {".py", ".sh", ".bash", ".zsh", ".js", ".mjs", ".ts", ".rb", ".pl", ".ps1", ".bat", ".cmd", ".exe"}
BYTES_MOST = 20 * 1024 * 1024
FIRST_LINES = 5
LINE_MOST = 160


@dataclass(frozen=True)
class Look:
    """What a skill would bring, for the person who decides. Texts are free of control characters."""

    name: str
    description: str
    files: list[tuple[str, int]]  # path and bytes
    scripts: dict[str, list[str]]  # path to its first lines
    body: list[str]  # first lines
    allowed_tools: list[str]
    errors: list[str]
    warnings: list[str]


def look(folder: Path) -> Look:
    """Refuses what could not be installed, so that nobody says yes in vain."""
    skill, verdict = load(folder), check(folder)
    listed = [(path, (folder / path).stat().st_size) for path in checked_files(folder)]
    scripts = [path for path, _ in listed if is_script(folder / path, path)]
    return Look(
        name=skill.name,
        description=harmless(skill.description),
        files=[(harmless(path), size) for path, size in listed],
        scripts={harmless(path): first_lines(folder / path) for path in scripts},
        body=[harmless(line)[:LINE_MOST] for line in skill.text.splitlines() if line.strip()][:FIRST_LINES],
        allowed_tools=[harmless(tool) for tool in skill.allowed_tools],
        errors=[harmless(text) for text in verdict.errors],
        warnings=[harmless(text) for text in verdict.warnings],
    )


def checked_files(folder: Path) -> list[str]:
    out = files.links_out(folder)
    if out:
        raise UserError(f"'{harmless(out[0])}' is a link that leads out of the skill. It is not added.")
    odd = [path for path in files.entries(folder) if not path.is_file() and not path.is_dir()]
    if odd:
        raise UserError(f"'{harmless(odd[0].name)}' is no regular file. It is not added.")
    linked = [path for path in files.entries(folder) if path.is_dir()]
    if linked:
        raise UserError(f"'{harmless(linked[0].name)}' is a link to a folder. Put the files themselves there.")
    listed = files.listing(folder)
    weight = sum((folder / path).stat().st_size for path in listed)
    if weight > BYTES_MOST:
        raise UserError(f"the skill weighs {weight >> 20} MiB; {BYTES_MOST >> 20} are allowed. Remove large files.")
    return listed


def is_script(file: Path, path: str) -> bool:
    with file.open("rb") as opened:
        head = opened.read(4)
    in_scripts = path.startswith("scripts/") and file.suffix in ("", *SCRIPT_SUFFIXES)
    return in_scripts or file.suffix.lower() in SCRIPT_SUFFIXES or head[:2] == b"#!" or head == b"\x7fELF"


def first_lines(file: Path) -> list[str]:
    with file.open("rb") as opened:
        head = opened.read(4096)
    if b"\0" in head:
        return ["(no text)"]
    return [harmless(line)[:LINE_MOST] for line in head.decode("utf-8", "replace").splitlines()[:FIRST_LINES]]


def harmless(text: str) -> str:
    """Without what could command a terminal or turn text round."""
    return "".join(letter if letter.isprintable() else "�" for letter in text.expandtabs(4))


def install(brought: Brought, home: Path, trusted: bool = False) -> Skill:
    """Into `home/skills/<name>`, whole or not at all."""
    name = load(brought.folder).name
    shelf = home / "skills"
    place = shelf / name
    if os.path.lexists(place):
        raise UserError(f"{place} exists already. Remove it first: python -m agent skills remove {name}.")
    shelf.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=shelf, prefix=".adding-"))
    try:
        for path in checked_files(brought.folder):
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile((brought.folder / path).resolve(), target)
            target.chmod(0o644)
        digest = files.digest(draft)
        trust.write(draft / files.PROVENANCE, json.dumps(provenance(brought, digest), indent=2) + "\n")
        draft.chmod(0o755)
        os.rename(draft, place)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError) and place.exists():
            raise UserError(f"{place} was made by somebody else meanwhile. Look at it and try again.") from None
        raise
    if trusted:
        trust.add(home, name, digest)
    return load(place, "home", trusted=trusted)


def provenance(brought: Brought, digest: str | None) -> dict[str, str | None]:
    told = {key: value for key, value in asdict(brought).items() if key != "folder"}
    return told | {"digest": digest, "added": datetime.now(UTC).isoformat(timespec="seconds")}


def origin(skill: Skill) -> dict[str, str | None] | None:
    """Where an added skill came from; None for one that was not added."""
    try:
        return json.loads((skill.folder / files.PROVENANCE).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def remove(skill: Skill, home: Path) -> None:
    """Out of the home folder. Skills elsewhere belong to somebody else."""
    shelf = (home / "skills").absolute()
    if skill.source != "home" or not skill.folder.is_relative_to(shelf):
        raise UserError(f"{skill.name} lies in {skill.folder}, not in {shelf}. Remove it there by hand.")
    if skill.folder.is_symlink():
        skill.folder.unlink()
        return
    gone = Path(tempfile.mkdtemp(dir=shelf, prefix=".removing-"))
    os.rename(skill.folder, gone / skill.name)
    shutil.rmtree(gone)
