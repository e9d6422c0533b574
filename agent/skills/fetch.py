"""Bringing a skill from where it is into a folder of its own, to be looked at before it is installed.

Sources: a folder, an archive, a git address, a Hub repository (`hf://[datasets/|spaces/]owner/name[@revision]`, or
`owner/name` where no such path exists). Nothing that is brought is run.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.errors import UserError
from agent.settings import Settings

from . import archive, git
from .files import SKIPPED
from .read import has_skill, load

HUB = re.compile(r"(?:hf://)?(?:(models|datasets|spaces)/)?([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")
HUB_FILES_MOST = 2000
DEPTH_MOST = 5


@dataclass(frozen=True)
class Brought:
    """`folder` holds SKILL.md and lies in a temporary place, except where the source itself is a folder."""

    folder: Path
    kind: str  # folder, archive, git or hub
    source: str
    revision: str | None
    path: str  # where in the source the skill lies


@contextmanager
def bring(source: str, settings: Settings, revision: str | None = None, path: str = "") -> Iterator[Brought]:
    with tempfile.TemporaryDirectory(prefix="skill-") as temporary:
        kind, whole, known = whole_of(source, settings, revision, Path(temporary) / "whole")
        folder = the_skill(whole, path)
        inner = folder.relative_to(whole).as_posix()
        if kind != "folder" and folder == whole:  # our own temporary name for it says nothing about the skill
            folder = whole.rename(whole.parent / load(whole).name)
        yield Brought(folder, kind, told_source(source, kind), known, "" if inner == "." else inner)


def whole_of(source: str, settings: Settings, revision: str | None, into: Path) -> tuple[str, Path, str | None]:
    local = Path(source).expanduser()
    if local.is_dir():
        refuse_revision(revision)
        return "folder", local.absolute(), None
    if local.is_file():
        refuse_revision(revision)
        if not local.name.lower().endswith(archive.SUFFIXES):
            raise UserError(f"{local.name} is no archive that is known here. Use one of {', '.join(archive.SUFFIXES)}.")
        into = into.resolve()
        into.mkdir(parents=True)
        archive.unpack(local, into)
        return "archive", into, None
    if "://" in source and not source.startswith("hf://"):
        if settings.offline and not source.startswith("file://"):
            raise UserError(f"offline is set, and {source} is on the network. Add a folder or an archive.")
        return "git", into, git.fetch(source, revision, into)
    match = HUB.fullmatch(source)
    if not match:
        raise UserError(f"{source} is no folder, archive, git address or Hub repository. Check the spelling.")
    return "hub", into, from_hub(match[1] or "models", match[2], revision or match[3], settings, into)


def refuse_revision(revision: str | None) -> None:
    if revision:
        raise UserError("a folder or archive has no revisions. Leave --revision out.")


def from_hub(kind: str, name: str, revision: str | None, settings: Settings, into: Path) -> str:
    """The commit whose files now lie in `into`. What it weighs is asked before anything is fetched."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if settings.offline or constants.HF_HUB_OFFLINE:
        raise UserError(f"offline is set, and {name} is on the Hub. Add a folder or an archive.")
    token = settings.hf_token.get_secret_value() if settings.hf_token else False
    api, repo_type = HfApi(token=token), kind.removesuffix("s")
    try:
        facts = api.repo_info(name, repo_type=repo_type, revision=revision, files_metadata=True)
        files = getattr(facts, "siblings", None) or []
        if any(".." in file.rfilename.split("/") or file.rfilename.startswith("/") for file in files):
            raise archive.Hostile(f"{name} holds a file whose name leads out of its folder. Do not use it.")
        weight = sum(file.size or 0 for file in files)
        if weight > archive.UNPACKED_MOST or len(files) > HUB_FILES_MOST:
            raise UserError(
                f"{name} holds {len(files)} files of {weight >> 20} MiB, too much for a skill. "
                "Fetch the part you want yourself and add its folder."
            )
        api.snapshot_download(name, repo_type=repo_type, revision=facts.sha, local_dir=into)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"{kind}/{name} cannot be fetched: {said}. Check name, token and network.") from None
    shutil.rmtree(into / ".cache", ignore_errors=True)
    return str(facts.sha)


def the_skill(whole: Path, path: str) -> Path:
    """The one skill below, or the one that `path` names."""
    if path:
        folder = (whole / path).resolve()
        if not folder.is_relative_to(whole.resolve()) or not has_skill(folder):
            raise UserError(f"there is no skill at '{path}'. {there_are(whole)}")
        return whole / folder.relative_to(whole.resolve())
    found = list(skill_folders(whole))
    if len(found) != 1:
        raise UserError(f"{'several skills' if found else 'no skill'} in it. {there_are(whole)}")
    return found[0]


def there_are(whole: Path) -> str:
    paths = [folder.relative_to(whole).as_posix() for folder in skill_folders(whole)]
    if not paths:
        return "A skill is a folder with a SKILL.md."
    more = f" and {len(paths) - 20} more" if len(paths) > 20 else ""
    return f"Choose one with --path: {', '.join(paths[:20])}{more}."


def skill_folders(folder: Path, depth: int = 0) -> Iterator[Path]:
    if has_skill(folder):
        yield folder
    elif depth < DEPTH_MOST:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.is_symlink() and child.name not in SKIPPED:
                yield from skill_folders(child, depth + 1)


def told_source(source: str, kind: str) -> str:
    return str(Path(source).expanduser().absolute()) if kind in ("folder", "archive") else source
