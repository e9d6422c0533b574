"""A folder as a skill: leniently, as the standard asks of whoever loads one, and strictly, of whoever writes one.

One reading serves both. It refuses what cannot be used (no description, unreadable YAML) and notes what breaks the
standard; `check` calls a folder valid when nothing of that kind was found.
"""

import json
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import frontmatter
from .files import TooMany, is_inside, links_out
from .skill import (
    BODY_LINES,
    BODY_TOKENS,
    COMPATIBILITY_MOST,
    DESCRIPTION_MOST,
    FIELDS,
    NAME,
    NAME_MOST,
    Note,
    Refused,
    Skill,
    tokens,
)

FILE_MOST = 1024 * 1024
TRIGGERS_MOST = 40
TOOL = re.compile(r"[^\s,(]+(?:\([^)]*\))?")
LINK = re.compile(r"\]\((?![a-z]+:|#|/)([^)\s#]+)")


@dataclass(frozen=True)
class Verdict:
    errors: list[str]
    warnings: list[str]


def load(folder: Path, source: str = "folder", trusted: bool = False) -> Skill:
    """The skill of a folder, or `Refused` with the reason."""
    folder = folder.absolute()
    path, notes = skill_file(folder)
    block, body, more = frontmatter.split(text_of(path, folder))
    fields, yet_more = frontmatter.parse(block)
    notes += more + yet_more
    fields = known(fields, notes)
    called, not_called = triggers_of(folder, notes)
    skill = Skill(
        name=name_of(fields, folder, notes),
        description=description_of(fields, notes),
        folder=folder,
        text=body,
        source=source,
        trusted=trusted,
        allowed_tools=tools_of(fields, notes),
        license=line_of(fields, "license", notes),
        compatibility=compatibility_of(fields, notes),
        metadata=metadata_of(fields, notes),
        triggers=called,
        false_friends=not_called,
        notes=(*notes, *about_body(body), *about_files(folder)),
    )
    return skill


def check(folder: Path) -> Verdict:
    """Strict: what the standard forbids are errors; what only makes a skill worse are warnings."""
    folder = folder.resolve()
    if not folder.is_dir():
        return Verdict([f"{folder} is no folder. Name the folder that holds SKILL.md."], [])
    try:
        skill = load(folder)
    except Refused as error:
        return Verdict([str(error)], [])
    dead = [target for target in LINK.findall(skill.text) if not is_inside(folder / target, folder)]
    warnings = [note.text for note in skill.notes if not note.breaks]
    warnings += [f"the link to '{target}' leads nowhere in the folder" for target in dict.fromkeys(dead)]
    return Verdict([note.text for note in skill.notes if note.breaks], warnings)


def has_skill(folder: Path) -> bool:
    try:
        return any(entry.name.lower() == "skill.md" for entry in folder.iterdir())
    except OSError:
        return False


def skill_file(folder: Path) -> tuple[Path, list[Note]]:
    try:
        named = sorted(entry for entry in folder.iterdir() if entry.name.lower() == "skill.md")
    except OSError as error:
        raise Refused(f"{folder} cannot be read: {error.strerror}. Name the folder that holds SKILL.md.") from None
    if not named:
        raise Refused(f"{folder.name} has no SKILL.md. Write one, or name the folder that holds it.")
    path = next((entry for entry in named if entry.name == "SKILL.md"), named[0])
    return path, [] if path.name == "SKILL.md" else [Note(f"the file is called {path.name}. Call it SKILL.md")]


def text_of(path: Path, folder: Path) -> str:
    if not is_inside(path, folder):
        raise Refused(f"{path.name} is a link that leads out of its folder. Put the file itself there.")
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise Refused(f"{path.name} is no regular file. Put a text file there.")
        if facts.st_size > FILE_MOST:
            raise Refused(f"{path.name} is larger than {FILE_MOST // 1024} KiB. Move text into references/.")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise Refused(f"{path.name} cannot be read: {error.strerror}. Mend its permissions.") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{path.name} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    if "\0" in text:
        raise Refused(f"{path.name} has zero bytes in it. Save it as a text file.")
    return text


def known(fields: dict[str, Any], notes: list[Note]) -> dict[str, Any]:
    """The fields of the standard. A key that only differs in case or underscores is taken for the one it means."""
    found = {key: value for key, value in fields.items() if key in FIELDS}
    unknown = []
    for key in fields.keys() - found.keys():
        meant = key.strip().lower().replace("_", "-")
        if meant in FIELDS and meant not in found:
            found[meant] = fields[key]
            notes.append(Note(f"the key '{key}' must be written '{meant}'"))
        else:
            unknown.append(key)
    if unknown:
        shown = ", ".join(f"'{key}'" for key in sorted(unknown))
        notes.append(Note(f"unknown key {shown}: ignored. Keys of your own go under metadata"))
    return found


def line_of(fields: dict[str, Any], key: str, notes: list[Note]) -> str:
    """A field as one line of text."""
    value = fields.get(key, "")
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        notes.append(Note(f"{key} is a list. Write it as one text"))
        value = ", ".join(value)
    if not isinstance(value, str):
        notes.append(Note(f"{key} is no text and is ignored. Write it as one text"))
        return ""
    return " ".join(value.split())


def name_of(fields: dict[str, Any], folder: Path, notes: list[Note]) -> str:
    declared = line_of(fields, "name", notes)
    if not declared:
        notes.append(Note("it has no name; the folder's name is taken"))
    name = usable_name(declared) or usable_name(folder.name)
    if not name:
        raise Refused(f"neither '{declared}' nor the folder gives a name. Use a-z, 0-9 and single hyphens.")
    if declared and declared != name:
        notes.append(Note(f"the name '{declared[:80]}' is not allowed; '{name}' is taken. Use a-z, 0-9 and hyphens"))
    elif not NAME.fullmatch(name):
        notes.append(Note(f"the name '{name}' has letters other than a-z. Use a-z, 0-9 and single hyphens"))
    if name != folder.name:
        notes.append(Note(f"the name '{name}' differs from its folder '{folder.name}'. Give both the same name"))
    return name


def usable_name(text: str) -> str:
    """Letters and digits in lower case with single hyphens: harmless as a folder's name, whatever the text was."""
    lowered = unicodedata.normalize("NFKC", text).lower()
    return "-".join(re.findall(r"[^\W_]+", lowered))[:NAME_MOST].strip("-")


def description_of(fields: dict[str, Any], notes: list[Note]) -> str:
    description = line_of(fields, "description", notes)
    if not description:
        raise Refused("it has no description. Say in one what the skill does and when to use it.")
    written = fields["description"]
    length = len(written.strip() if isinstance(written, str) else description)
    if length > DESCRIPTION_MOST:
        notes.append(Note(f"the description has {length} characters. {DESCRIPTION_MOST} are allowed"))
    return description


def compatibility_of(fields: dict[str, Any], notes: list[Note]) -> str:
    text = line_of(fields, "compatibility", notes)
    if len(text) > COMPATIBILITY_MOST:
        notes.append(Note(f"compatibility has {len(text)} characters. {COMPATIBILITY_MOST} are allowed"))
    if "compatibility" in fields and not text:
        notes.append(Note("compatibility is empty. Leave the key out"))
    return text


def metadata_of(fields: dict[str, Any], notes: list[Note]) -> dict[str, str]:
    value = fields.get("metadata", {})
    if not isinstance(value, dict):
        notes.append(Note("metadata is no map and is ignored. Write 'key: value' lines below it"))
        return {}
    if any(not isinstance(entry, str) for entry in value.values()):
        notes.append(Note("metadata holds more than texts. Write every value as one text"))
    return {key: entry if isinstance(entry, str) else json.dumps(entry) for key, entry in value.items()}


def tools_of(fields: dict[str, Any], notes: list[Note]) -> tuple[str, ...]:
    """`Bash(git add *) Read`: blanks part tools, but not inside brackets."""
    value = fields.get("allowed-tools", "")
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        notes.append(Note("allowed-tools is a list. Write it as one text with blanks between", breaks=True))
        return tuple(value)
    if not isinstance(value, str):
        notes.append(Note("allowed-tools is no text and is ignored. Write it as one text with blanks between"))
        return ()
    if "," in re.sub(r"\([^)]*\)", "", value):
        notes.append(Note("allowed-tools has commas. Put blanks between the tools"))
    return tuple(TOOL.findall(value))


def triggers_of(folder: Path, notes: list[Note]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The requests in `evals/triggers.json` that should call the skill, and those that should not."""
    path = folder / "evals" / "triggers.json"
    if not is_inside(path, folder):
        return (), ()
    try:
        if path.stat().st_size > FILE_MOST:
            raise ValueError("too large")
        rows = json.loads(path.read_text("utf-8"))
        found = {
            wanted: [row["query"] for row in rows if row["should_trigger"] is wanted and isinstance(row["query"], str)]
            for wanted in (True, False)
        }
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        form = '[{"query": "…", "should_trigger": true}]'
        notes.append(Note(f"evals/triggers.json is not understood and ignored. Write {form}", breaks=False))
        return (), ()
    return tuple(found[True][:TRIGGERS_MOST]), tuple(found[False][:TRIGGERS_MOST])


def about_body(body: str) -> Iterator[Note]:
    lines, size = body.count("\n") + 1, tokens(body)
    if lines > BODY_LINES or size > BODY_TOKENS:
        told = f"the body is long: {lines} lines, about {size:,} tokens. Move details into references/"
        yield Note(told, breaks=False)


def about_files(folder: Path) -> Iterator[Note]:
    try:
        for link in links_out(folder)[:3]:
            yield Note(f"'{link}' is a link that leads out of the folder or nowhere; it cannot be read", breaks=False)
    except TooMany as error:
        yield Note(str(error), breaks=False)
