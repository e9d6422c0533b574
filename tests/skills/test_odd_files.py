"""Odd SKILL.md files, one a row: what the lenient reader does with each, and that strict validation agrees with the
reference validator wherever the written standard leaves no doubt."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import skills_ref

from agent.skills import Refused
from agent.skills.read import check, load

HEAD = b"---\nname: odd\ndescription: Use this skill for odd things.\n"
GOOD = HEAD + b"---\n\n# Odd\n\nBody.\n"


def head(*more: str, name: str = "odd", description: str = "Use this skill for odd things.") -> bytes:
    lines = ["---", f"name: {name}", f"description: {description}", *more, "---", "", "# Odd", "", "Body.", ""]
    return "\n".join(lines).encode()


ALL_FIELDS = ("license: MIT", "compatibility: Python", "metadata:", "  a: b", "allowed-tools: Read")
MANY_KEYS = [f"  k{number}: {'v' * 100}" for number in range(1000)]


@dataclass
class Odd:
    """`says`: a part of the warning or of the refusal; empty for a skill that loads without a word."""

    id: str
    content: bytes
    outcome: str  # loaded, warned, refused
    says: str = ""
    file: str = "SKILL.md"
    folder: str = "odd"
    valid: bool | None = None  # strictly; None: as the outcome suggests
    reference: bool | None = None  # the reference validator, where it differs from ours


ROWS = [
    # what is fine
    Odd("plain", GOOD, "loaded"),
    Odd("crlf", GOOD.replace(b"\n", b"\r\n"), "loaded"),
    Odd("empty-body", HEAD + b"---\n", "loaded"),
    Odd("no-newline-at-the-end", HEAD + b"---", "loaded"),
    Odd("comment", head("# a comment"), "loaded"),
    Odd("folded-block", head(description=">\n  Use this skill\n  for odd things."), "loaded"),
    Odd("literal-block", head(description="|\n  Use this skill: always.\n  for odd things."), "loaded"),
    Odd("quoted-colon", head(description='"Use when: asked."'), "loaded"),
    Odd("blanks-behind-the-border", GOOD.replace(b"---\n", b"--- \n"), "loaded"),
    Odd("all-fields", head(*ALL_FIELDS), "loaded"),
    Odd("number-as-name", head(name="42"), "loaded", folder="42"),
    Odd("name-of-64", head(name="a" * 64), "loaded", folder="a" * 64),
    Odd("description-of-1024", head(description="d" * 1024), "loaded"),
    Odd("description-in-chinese", head(description="当用户要求时使用此技能。"), "loaded"),
    Odd("emoji-in-body", GOOD + "🤖\n".encode(), "loaded"),
    Odd("rule-in-body", GOOD + b"\n---\n\nmore\n", "loaded"),
    Odd("yes-as-licence", head("license: yes"), "loaded"),
    Odd("version-number-in-metadata", head("metadata:", "  version: 1.10"), "loaded"),
    Odd("tool-with-blanks-in-brackets", head("allowed-tools: Bash(git add *) Read"), "loaded"),
    # what loads with a warning
    Odd("byte-order-mark", b"\xef\xbb\xbf" + GOOD, "warned", "byte order mark"),
    Odd("blank-first-line", b"\n" + GOOD, "warned", "blank lines"),
    Odd("old-mac-newlines", GOOD.replace(b"\n", b"\r"), "loaded"),
    Odd("closed-with-dots", GOOD.replace(b"things.\n---", b"things.\n..."), "warned", "'...'"),
    Odd("dashes-in-a-value", head(description="one --- two"), "warned", "'---'", reference=True),
    Odd("colon-in-description", head(description="Use when: asked."), "warned", "no valid YAML"),
    Odd("colon-over-two-lines", head(description="Use when: asked,\n  or so: it's fine."), "warned", "no valid YAML"),
    Odd("colon-in-metadata", head("metadata:", "  note: a: b"), "warned", "no valid YAML"),
    Odd("quotes-in-quotes", head(description='"Use "this" skill"'), "warned", "no valid YAML"),
    Odd("at-sign-first", head(description="@person asks"), "warned", "no valid YAML"),
    Odd("backtick-first", head(description="`code` is wanted"), "warned", "no valid YAML"),
    Odd("percent-first", head(description="%complete"), "warned", "no valid YAML"),
    Odd("tab-indent", head("metadata:", "\ta: b"), "warned", "tabs"),
    Odd("tab-behind-colon", GOOD.replace(b"name: odd", b"name:\todd"), "warned", "tabs"),
    Odd("duplicate-key", head("license: MIT", "license: BSD"), "warned", "twice"),
    Odd("unknown-key", head("version: 1.0.0"), "warned", "unknown key 'version'"),
    Odd("client-key", head("disable-model-invocation: true"), "warned", "unknown key"),
    Odd("merge-key", head("'<<': text"), "warned", "unknown key"),
    Odd("flow-metadata", head("metadata: {a: b}"), "warned", "{} or []"),
    Odd("flow-tools", head("allowed-tools: [Read, Bash]"), "warned", "{} or []"),
    Odd("list-of-tools", head("allowed-tools:", "  - Read", "  - Bash"), "warned", "is a list", reference=True),
    Odd("tools-with-commas", head("allowed-tools: Read, Bash"), "warned", "commas", reference=True),
    Odd("tools-as-map", head("allowed-tools:", "  Read: yes"), "warned", "no text", reference=True),
    Odd("metadata-as-text", head("metadata: text"), "warned", "no map", reference=True),
    Odd("nested-metadata", head("metadata:", "  a:", "    b: c"), "warned", "more than texts", reference=True),
    Odd("licence-as-map", head("license:", "  name: MIT"), "warned", "no text", reference=True),
    Odd("description-as-list", head(description="\n  - one\n  - two"), "warned", "is a list"),
    Odd("compatibility-of-501", head(f"compatibility: {'c' * 501}"), "warned", "501"),
    Odd("compatibility-empty", head("compatibility:"), "warned", "empty", reference=True),
    Odd("description-of-1025", head(description="d" * 1025), "warned", "1025"),
    Odd("no-name", GOOD.replace(b"name: odd\n", b""), "warned", "no name"),
    Odd("name-empty", head(name=""), "warned", "no name"),
    Odd("name-mismatch", head(name="other"), "warned", "differs from its folder"),
    Odd("name-in-capitals", head(name="Odd"), "warned", "not allowed"),
    Odd("name-with-blank", head(name="odd skill"), "warned", "not allowed"),
    Odd("name-with-underscore", head(name="odd_one"), "warned", "not allowed", folder="odd-one"),
    Odd("name-with-double-hyphen", head(name="odd--one"), "warned", "not allowed", folder="odd-one"),
    Odd("name-with-hyphen-at-the-end", head(name="odd-"), "warned", "not allowed"),
    Odd("name-climbs", head(name="../../etc/passwd"), "warned", "not allowed", folder="etc-passwd"),
    Odd("name-of-65", head(name="a" * 65), "warned", "not allowed", folder="a" * 65),
    Odd("name-with-umlaut", head(name="größe"), "warned", "other than a-z", folder="größe", reference=True),
    Odd("key-in-capitals", GOOD.replace(b"description:", b"Description:"), "warned", "must be written"),
    Odd("key-with-underscore", head("allowed_tools: Read"), "warned", "must be written"),
    Odd("file-in-lower-case", GOOD, "warned", "called skill.md", file="skill.md", reference=True),
    Odd("file-in-title-case", GOOD, "warned", "called Skill.md", file="Skill.md"),
    Odd("body-of-600-lines", GOOD + b"line\n" * 600, "warned", "the body is long", valid=True),
    Odd("body-of-200-kilobytes", GOOD + b"word " * 40_000, "warned", "the body is long", valid=True),
    # what cannot be used
    Odd("empty-file", b"", "refused", "no frontmatter"),
    Odd("only-blanks", b"  \n\n", "refused", "no frontmatter"),
    Odd("no-frontmatter", b"# Odd\n", "refused", "no frontmatter"),
    Odd("four-dashes", GOOD.replace(b"---\nname", b"----\nname"), "refused", "no frontmatter"),
    Odd("never-closed", HEAD + b"\n# Odd\n", "refused", "never ends"),
    Odd("closing-indented", HEAD + b"  ---\n# Odd\n", "refused", "never ends", reference=True),
    Odd("empty-frontmatter", b"---\n---\n# Odd\n", "refused", "no list of 'key: value'"),
    Odd("frontmatter-is-a-list", b"---\n- name\n- odd\n---\n", "refused", "no list of 'key: value'"),
    Odd("frontmatter-is-text", b"---\nodd\n---\n", "refused", "no list of 'key: value'"),
    Odd("no-description", b"---\nname: odd\n---\n", "refused", "no description"),
    Odd("description-blank", head(description='"  "'), "refused", "no description"),
    Odd("description-null", head(description="null"), "refused", "no description", reference=True),
    Odd("description-is-a-map", head(description="\n  a: b"), "refused", "no description"),
    Odd("yaml-broken", b"---\nname: odd\n- description\n  }: {\n---\n", "refused", "no YAML"),
    Odd("control-character", head(description="bell \x07"), "refused", "no YAML"),
    Odd("alias-bomb", head("metadata:", "  a: &a x", "  b: *a"), "refused", "anchors"),
    Odd("anchor-alone", head(description="&d text"), "refused", "anchors"),
    Odd("python-tag", head("metadata: !!python/object/apply:os.system ['true']"), "refused", "tag"),
    Odd("nested-too-deeply", head(f"metadata: {'[' * 2000}{']' * 2000}"), "refused", "nested"),
    Odd("head-of-100-kilobytes", head("metadata:", *MANY_KEYS), "refused", "KiB", reference=True),
    Odd("file-of-2-megabytes", GOOD + b"x" * (2 << 20), "refused", "larger than", reference=True),
    Odd("latin-1", head(description="Gr").replace(b"Gr\n", b"Gr\xf6\xdfe\n"), "refused", "not UTF-8"),
    Odd("utf-16", GOOD.decode().encode("utf-16"), "refused", "not UTF-8"),
    Odd("zero-bytes", GOOD + b"\0", "refused", "zero bytes", reference=True),
    Odd("wrong-file", GOOD, "refused", "no SKILL.md", file="README.md"),
]  # fmt: skip


def write(row: Odd, below: Path) -> Path:
    folder = below / row.folder
    folder.mkdir()
    (folder / row.file).write_bytes(row.content)
    return folder


def test_the_table_is_wide_enough() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_lenient_reader_takes_what_can_be_used(row: Odd, tmp_path: Path) -> None:
    folder = write(row, tmp_path)
    if row.outcome == "refused":
        with pytest.raises(Refused) as caught:
            load(folder)
        assert row.says in str(caught.value)
        return
    skill = load(folder)
    assert skill.description and skill.name
    if row.outcome == "loaded":
        assert skill.warnings == []
    else:
        assert any(row.says in warning for warning in skill.warnings), skill.warnings


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_strict_validation_follows_the_standard_and_its_reference(row: Odd, tmp_path: Path) -> None:
    folder = write(row, tmp_path)
    ours = not check(folder).errors
    assert ours == (row.outcome == "loaded" if row.valid is None else row.valid)
    theirs = False
    with contextlib.suppress(UnicodeDecodeError, AttributeError):  # the reference stumbles over some files
        theirs = skills_ref.validate(folder) == []
    assert theirs == (ours if row.reference is None else row.reference)
    assert theirs or not ours, "what we call valid must be valid for the reference"


def test_values_survive_the_mending(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    file = tmp_path / "odd" / "SKILL.md"
    file.write_bytes(
        head("metadata:", "  note: a: b", "  version: 1.10", description="Use when: asked,\n  it's so: fine.")
    )
    skill = load(tmp_path / "odd")
    assert skill.description == "Use when: asked, it's so: fine."
    assert skill.metadata == {"note": "a: b", "version": "1.10"}


def test_tools_are_parted_at_blanks_outside_brackets(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    for written in ("Bash(git add *) Read", "Bash(git add *), Read"):
        (tmp_path / "odd" / "SKILL.md").write_bytes(head(f"allowed-tools: {written}"))
        assert load(tmp_path / "odd").allowed_tools == ("Bash(git add *)", "Read")


def test_a_skill_file_that_links_out_is_refused_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(GOOD)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "SKILL.md").symlink_to(tmp_path / "secret")
    with pytest.raises(Refused, match="leads out"):
        load(tmp_path / "odd")


def test_a_pipe_for_a_skill_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    os.mkfifo(tmp_path / "odd" / "SKILL.md")
    with pytest.raises(Refused, match="no regular file"):
        load(tmp_path / "odd")


def test_both_spellings_side_by_side_give_the_standard_one(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "skill.md").write_bytes(GOOD.replace(b"odd things", b"the wrong file"))
    (folder / "SKILL.MD").write_bytes(GOOD.replace(b"odd things", b"the wrong file"))
    (folder / "SKILL.md").write_bytes(GOOD)
    assert load(folder).description == "Use this skill for odd things." and load(folder).warnings == []


def test_a_hostile_frontmatter_costs_no_time(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    bombs = [
        head(f"metadata: {'{a: ' * 5000}"),
        head("metadata:", *(f"  {'a' * n}: {'b: ' * 20}" for n in range(1, 250))),
        head(description="'" + "''" * 20_000),
    ]
    for bomb in bombs:
        (tmp_path / "odd" / "SKILL.md").write_bytes(bomb)
        start = time.perf_counter()
        with contextlib.suppress(Refused):
            load(tmp_path / "odd")
        assert time.perf_counter() - start < 3


def test_a_dead_link_in_the_body_is_advice(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "SKILL.md").write_bytes(
        GOOD + b"See [more](references/more.md) and [web](https://example.org).\n"
    )
    verdict = check(tmp_path / "odd")
    assert verdict.errors == [] and len(verdict.warnings) == 1 and "references/more.md" in verdict.warnings[0]
