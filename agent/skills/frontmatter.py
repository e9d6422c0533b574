"""The YAML head of a SKILL.md: leniently read, with a note on all that a strict reader would refuse.

Every scalar is text, as the standard means it: `1.10` stays "1.10" and `yes` stays "yes". Anchors, aliases and tags are
refused, so that a small file cannot grow in memory nor build anything but strings, lists and maps.
"""

import re
from typing import Any

import yaml  # type: ignore[import-untyped]

from .skill import Note, Refused

BLOCK_MOST = 64 * 1024
DEPTH_MOST = 8
CORE_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "timestamp")}

KEY_LINE = re.compile(r"(\s*)([\w.-]+)[ \t]*:(?:[ \t]+(.*))?$")
BLOCK_SCALAR = re.compile(r"[|>][-+0-9]*\s*(#.*)?$")


def split(text: str) -> tuple[str, str, list[Note]]:
    """The frontmatter, the body, and what was odd about the border between them."""
    notes = []
    if text.startswith("\ufeff"):
        notes.append(Note("the file starts with a byte order mark. Save it as UTF-8 without one"))
        text = text.removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if lines[first].rstrip() != "---":
        raise Refused("SKILL.md has no frontmatter. Its first line must be ---.")
    if first:
        notes.append(Note("blank lines stand before the frontmatter. Its --- must be the first line"))
    end = next((at for at in range(first + 1, len(lines)) if lines[at].rstrip() in ("---", "...")), None)
    if end is None:
        raise Refused("the frontmatter never ends. Close it with a line ---.")
    if lines[end].rstrip() == "...":
        notes.append(Note("the frontmatter is closed with '...'. Close it with ---"))
    block = "\n".join(lines[first + 1 : end])
    if "---" in block:
        notes.append(Note("'---' stands inside the frontmatter; many readers take it for the end. Write a dash less"))
    return block, "\n".join(lines[end + 1 :]).strip(), notes


def parse(block: str) -> tuple[dict[str, Any], list[Note]]:
    """The fields of a frontmatter. YAML that does not read is tried again with tabs and loose colons mended."""
    if len(block.encode()) > BLOCK_MOST:
        raise Refused(f"the frontmatter is larger than {BLOCK_MOST // 1024} KiB. Move text into the body.")
    spaced = block.replace("\t", "  ")
    tries = [
        (block, []),
        (spaced, [Note("tabs in the frontmatter. Indent with spaces")]),
        (
            quoted(spaced),
            [Note("the frontmatter is no valid YAML as it stands. Put values with ': ' in quotes")],
        ),
    ]
    trouble: yaml.YAMLError | None = None
    for text, notes in tries:
        try:
            fields, more = compose(text)
        except yaml.YAMLError as error:
            trouble = trouble or error
            continue
        return fields, notes + more
    raise Refused(f"the frontmatter is no YAML: {reason(trouble)}. Mend it, best by quoting the values.")


def reason(error: yaml.YAMLError | None) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    return f"{what} (line {mark.line + 2})" if mark else str(what)


def compose(block: str) -> tuple[dict[str, Any], list[Note]]:
    depth = 0
    for event in yaml.parse(block, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise Refused("anchors and aliases (& and *) are not taken in a frontmatter. Write values out, in quotes.")
        if getattr(event, "tag", None) not in {None, "!", *CORE_TAGS}:
            raise Refused(f"the tag {event.tag} is not taken in a frontmatter. Write plain text.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MOST:
            raise Refused("the frontmatter is nested too deeply. A map of text to text is as deep as it goes.")
    node = yaml.compose(block, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        raise Refused("the frontmatter is no list of 'key: value' lines. Write at least name and description.")
    notes: list[Note] = []
    fields = plain(node, notes)
    return fields, list(dict.fromkeys(notes))


def plain(node: yaml.Node, notes: list[Note]) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return "" if node.tag.endswith(":null") else node.value
    if node.flow_style:
        notes.append(Note("{} or [] in the frontmatter, which strict readers refuse. Write one entry a line"))
    if isinstance(node, yaml.SequenceNode):
        return [plain(entry, notes) for entry in node.value]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
        if key in found:
            notes.append(Note(f"the key '{key}' stands twice; the last one counts"))
        found[key] = plain(value_node, notes)
    return found


def quoted(block: str) -> str:
    """The same block with every value of a `key: value` line in single quotes, its following lines drawn in."""
    mended: list[str] = []
    literal = folding = False
    for line in block.split("\n"):
        match = KEY_LINE.match(line)
        indented = line[:1] == " "
        if indented and literal:
            mended.append(line)
        elif indented and folding and line.strip():
            mended[-1] = f"{mended[-1][:-1]} {line.strip().replace(chr(39), chr(39) * 2)}'"
        elif not match:
            mended.append(line)
        else:
            value = (match[3] or "").strip()
            literal = bool(BLOCK_SCALAR.match(value))
            keep = not value or literal or (value[0], value[-1]) in {("[", "]"), ("{", "}")}
            folding = not keep and not indented
            mended.append(line if keep else f"{match[1]}{match[2]}: {single_quoted(unquoted(value))}")
    return "\n".join(mended)


def unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def single_quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
