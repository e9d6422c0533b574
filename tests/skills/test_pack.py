"""The manifests for other agents: their shapes, one version, the same bytes each time, and skills that each agent finds
where it looks for them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import skills_ref
from pydantic import BaseModel, ConfigDict, Field

from agent.errors import UserError
from agent.skills.new import write_new
from agent.skills.pack import CATALOG, about, drift, pack, save
from agent.skills.read import check, load

Name = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
Version = Field(pattern=r"^\d+\.\d+\.\d+$")

PROJECT = """
[project]
name = "smithy"
version = "1.2.3"
description = "Know-how: “quoted”, and more"
license = "Apache-2.0"
authors = [{ name = "The authors" }]
[project.urls]
Homepage = "https://example.org"
Repository = "https://example.org/git"
"""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Person(Strict):
    name: str = Field(min_length=1)


class Plugin(Strict):
    name: str = Name
    description: str = Field(min_length=1)
    version: str = Version
    author: Person
    homepage: str | None = None
    repository: str | None = None
    license: str | None = None
    keywords: list[str] = []


class CursorPlugin(Plugin):
    skills: str


class Facts(Strict):
    description: str
    version: str = Version


class Entry(Strict):
    name: str = Name
    source: str = Field(pattern=r"^\./")
    description: str
    skills: list[str] | None = None


class Marketplace(Strict):
    name: str = Name
    owner: Person
    metadata: Facts
    plugins: list[Entry] = Field(min_length=1)


class Extension(Strict):
    name: str = Name
    version: str = Version
    description: str
    contextFileName: str


SHAPES: dict[str, type[Strict]] = {
    ".claude-plugin/plugin.json": Plugin,
    ".claude-plugin/marketplace.json": Marketplace,
    ".cursor-plugin/plugin.json": CursorPlugin,
    ".cursor-plugin/marketplace.json": Marketplace,
    "gemini-extension.json": Extension,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text(PROJECT, "utf-8")
    for name in ("zebra", "alpha", "llm-trainer"):
        write_new(name, root / "skills", f"Use this skill when: it's about {name}. Größe “x”.")
    return root


def made(root: Path) -> dict[str, Any]:
    save(root, pack(root, about(root)))
    return {path: json.loads((root / path).read_text("utf-8")) for path in SHAPES}


@pytest.mark.parametrize("path", SHAPES)
def test_each_manifest_has_the_shape_its_agent_reads(project: Path, path: str) -> None:
    SHAPES[path].model_validate(made(project)[path])


def test_all_manifests_say_the_one_version_of_the_project(project: Path) -> None:
    text = json.dumps(made(project))
    assert set(re.findall(r'"version": "([^"]+)"', text)) == {"1.2.3"}
    assert "1.2.3" in (project / CATALOG).read_text()


def test_the_same_skills_give_the_same_bytes_wherever_they_lie(project: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(project, twin)
    assert pack(project, about(project)) == pack(twin, about(twin))
    assert str(tmp_path) not in json.dumps(pack(project, about(project)))


def test_drift_names_what_differs_and_packing_again_mends_it(project: Path) -> None:
    packed = pack(project, about(project))
    assert drift(project, packed) == list(packed)
    assert save(project, packed) == list(packed) and drift(project, packed) == []
    write_new("new-one", project / "skills")
    changed = drift(project, pack(project, about(project)))
    assert (
        CATALOG in changed and ".claude-plugin/marketplace.json" in changed and "gemini-extension.json" not in changed
    )
    (project / "gemini-extension.json").write_text("{}")
    save(project, pack(project, about(project)))
    assert drift(project, pack(project, about(project))) == []


def test_claude_code_finds_every_skill_at_the_path_of_the_marketplace(project: Path) -> None:
    entry = made(project)[".claude-plugin/marketplace.json"]["plugins"][0]
    base = project / entry["source"]
    assert sorted(load(base / path).name for path in entry["skills"]) == ["alpha", "llm-trainer", "zebra"]
    assert (base / ".claude-plugin" / "plugin.json").is_file()


def test_cursor_finds_the_skills_folder_beside_its_manifest(project: Path) -> None:
    manifests = made(project)
    base = project / manifests[".cursor-plugin/marketplace.json"]["plugins"][0]["source"]
    folder = base / manifests[".cursor-plugin/plugin.json"]["skills"]
    assert sorted(path.parent.name for path in folder.glob("*/SKILL.md")) == ["alpha", "llm-trainer", "zebra"]


def linked(catalog: Path) -> list[Path]:
    return [catalog.parent / path for path in re.findall(r"\]\(([^)]+)\)", catalog.read_text("utf-8"))]


def test_gemini_reads_the_catalog_whose_links_lead_to_the_skills(project: Path, tmp_path: Path) -> None:
    context = made(project)["gemini-extension.json"]["contextFileName"]
    place = tmp_path / "home" / ".gemini" / "extensions" / "smithy"
    shutil.copytree(project, place)
    assert [path.parent.name for path in linked(place / context)] == ["alpha", "llm-trainer", "zebra"]
    assert all(path.is_file() for path in linked(place / context))


def test_codex_and_others_take_the_folder_as_it_is(project: Path, tmp_path: Path) -> None:
    made(project)
    place = tmp_path / "theirs" / ".agents" / "skills"
    shutil.copytree(project / "skills", place)
    assert all(path.is_file() for path in linked(place / "AGENTS.md")) and len(linked(place / "AGENTS.md")) == 3
    assert all(check(folder).errors == [] for folder in place.iterdir() if folder.is_dir())


def test_a_skill_that_does_not_validate_is_not_packed(project: Path) -> None:
    (project / "skills" / "zebra" / "SKILL.md").write_text("---\nname: other\ndescription: x\n---\n")
    with pytest.raises(UserError, match="zebra does not validate"):
        pack(project, about(project))


def test_without_a_project_file_the_facts_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--name --version --description --owner"):
        about(tmp_path)
    with pytest.raises(UserError, match="no skills"):
        pack(tmp_path, about(tmp_path, name="a", version="1.0.0", description="d", owner="o"))


def test_what_is_said_wins_over_the_project_file(project: Path) -> None:
    assert about(project, version="2.0.0", name=None).version == "2.0.0"
    assert about(project, version="2.0.0", name=None).name == "smithy"


@pytest.mark.parametrize(
    "description", ["", 'Use when: it\'s "odd" --- and {so} #on.', "Für Größe: “x” & <y>", "yes", "- 1"]
)
def test_a_new_skill_validates_whatever_its_description(tmp_path: Path, description: str) -> None:
    folder = write_new("brand-new", tmp_path, description)
    assert check(folder) == type(check(folder))([], [])
    assert skills_ref.validate(folder) == []
    if description:
        assert load(folder).description == description.replace("---", "–")
    assert load(folder).triggers == ("I need brand new",)


@pytest.mark.parametrize("name", ["Upper", "a--b", "-a", "a_b", "", "a" * 65, "../a", "größe"])
def test_a_new_skill_cannot_have_a_wrong_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        write_new(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_new_skill_does_not_overwrite_another(tmp_path: Path) -> None:
    write_new("one", tmp_path, "First.")
    with pytest.raises(UserError, match="exists already"):
        write_new("one", tmp_path, "Second.")
    assert load(tmp_path / "one").description == "First."
