"""What other agents need to take the skills of a project: manifests for Claude Code, Cursor and Gemini CLI, and the
catalog that Codex and others read from `.agents/skills`.

All of it is computed from the skills and one version, so the same input gives the same bytes; `drift` tells what on
disk differs. The skills themselves stay where they are, unchanged.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import UserError

from .find import children
from .read import check, has_skill, load
from .skill import Skill
from .trust import write

CATALOG = "skills/AGENTS.md"


@dataclass(frozen=True)
class About:
    """What the manifests say of the whole set."""

    name: str
    version: str
    description: str
    owner: str
    license: str = ""
    homepage: str = ""
    repository: str = ""


def about(root: Path, **said: str | None) -> About:
    """From the project's pyproject.toml; what was said wins."""
    try:
        project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text("utf-8")).get("project", {})
    except FileNotFoundError:
        project = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{root / 'pyproject.toml'} cannot be read: {error}. Mend it.") from None
    urls = {key.lower(): url for key, url in project.get("urls", {}).items()}
    license_told = project.get("license", "")
    found = {
        "name": project.get("name", ""),
        "version": project.get("version", ""),
        "description": project.get("description", ""),
        "owner": next((author["name"] for author in project.get("authors", []) if "name" in author), ""),
        "license": license_told if isinstance(license_told, str) else license_told.get("text", ""),
        "homepage": urls.get("homepage", ""),
        "repository": urls.get("repository", urls.get("source", "")),
    }
    found |= {key: value for key, value in said.items() if value}
    missing = [key for key in ("name", "version", "description", "owner") if not found[key]]
    if missing:
        options = " ".join(f"--{key}" for key in missing)
        raise UserError(f"{root} has no pyproject.toml that tells its {', '.join(missing)}. Give {options}.")
    return About(**found)


def skills_of(root: Path) -> list[Skill]:
    """The skills in `root/skills`, each valid by the standard."""
    folders = [folder for folder in children(root / "skills") if has_skill(folder)]
    if not folders:
        raise UserError(f"there are no skills in {root / 'skills'}. Name the folder that holds skills/.")
    for folder in folders:
        errors = check(folder).errors
        if errors:
            raise UserError(
                f"{folder.name} does not validate: {errors[0]}. See: python -m agent skills validate {folder}"
            )
    return [load(folder) for folder in folders]


def pack(root: Path, told: About) -> dict[str, str]:
    """Every generated file, by its path below the root."""
    skills = skills_of(root)
    names = [skill.name for skill in skills]
    return {
        ".claude-plugin/plugin.json": dump(plugin(told, names)),
        ".claude-plugin/marketplace.json": dump(marketplace(told, [f"./skills/{name}" for name in names])),
        ".cursor-plugin/plugin.json": dump(plugin(told, names) | {"skills": "skills"}),
        ".cursor-plugin/marketplace.json": dump(marketplace(told, None)),
        "gemini-extension.json": dump(
            {"name": told.name, "version": told.version, "description": told.description, "contextFileName": CATALOG}
        ),
        CATALOG: catalog(told, skills),
    }


def plugin(told: About, names: list[str]) -> dict[str, Any]:
    fields = {
        "name": told.name,
        "description": told.description,
        "version": told.version,
        "author": {"name": told.owner},
        "homepage": told.homepage,
        "repository": told.repository,
        "license": told.license,
        "keywords": names,
    }
    return {key: value for key, value in fields.items() if value}


def marketplace(told: About, paths: list[str] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": told.name, "source": "./", "description": told.description}
    return {
        "name": told.name,
        "owner": {"name": told.owner},
        "metadata": {"description": told.description, "version": told.version},
        "plugins": [entry if paths is None else entry | {"skills": paths}],
    }


def catalog(told: About, skills: list[Skill]) -> str:
    """Paths are relative to this file, so it holds in the project and in `.agents/skills` alike."""
    rows = [f"- [{skill.name}]({skill.name}/SKILL.md): {skill.description}" for skill in skills]
    return "\n".join(
        [
            f"# Skills of {told.name} {told.version}",
            "",
            "Before work that one of these fits, read its SKILL.md whole and follow it. Paths in a SKILL.md start",
            "at the folder it lies in; read the files it points to when it does so.",
            "",
            *rows,
            "",
        ]
    )


def dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def drift(root: Path, packed: dict[str, str]) -> list[str]:
    """The generated files that are missing or differ."""

    def on_disk(path: str) -> str | None:
        try:
            return (root / path).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    return [path for path, text in packed.items() if on_disk(path) != text]


def save(root: Path, packed: dict[str, str]) -> list[str]:
    """Writes what differs and says what that was."""
    changed = drift(root, packed)
    for path in changed:
        write(root / path, packed[path])
        (root / path).chmod(0o644)
    return changed
