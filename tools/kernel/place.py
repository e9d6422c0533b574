"""Where kernels lie on this host, and which patterns the skill has. Files are only written and read here, never run.

What ran in the jail may have left anything in a project: no link is followed, and what is read is bounded.
"""

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

from tools.context import ToolError, here

SKILL = Path(__file__).resolve().parents[2] / "skills" / "kernel-builder"
SOURCES = ["oracle.py", "arguments.h", "kernel.cuh", "rows.h", "triton_kernel.py", "functions.py", "layers.py"]
NAME = re.compile(r"[a-z][-a-z0-9]{0,78}[a-z0-9]")
LARGEST_SOURCE, LARGEST_FILE = 200_000, 8_000_000


def patterns() -> dict[str, list[str]]:
    """The worked ops by name, each with what people call it; read from the oracles without running them."""
    found = {}
    for path in sorted(SKILL.glob("patterns/*/oracle.py")):
        told = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign):
                targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                for target, value in zip(targets, values, strict=False):
                    if isinstance(target, ast.Name) and target.id in ("TITLE", "NAMES"):
                        told[target.id] = ast.literal_eval(value)
        found[path.parent.name] = [path.parent.name, told.get("TITLE", ""), *told.get("NAMES", [])]
    return found


def pattern_of(op: str) -> str | None:
    """The pattern a person means by a name: RMSNorm, rms norm and rms_norm are one."""
    wanted = letters(op)
    return next((name for name, called in patterns().items() if wanted in map(letters, called)), None)


def letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def kernels_folder() -> Path:
    return here().home / "kernels"


def names() -> list[str]:
    return sorted(path.parent.name for path in kernels_folder().glob("*/kernel.json"))


def folder_of(kernel: str) -> Path:
    folder = kernels_folder() / kernel
    if NAME.fullmatch(kernel) and (folder / "kernel.json").is_file() and not folder.is_symlink():
        return folder
    have = ", ".join(names()[:8])
    raise ToolError(
        f"There is no kernel '{kernel}'. " + (f"There are: {have}." if have else "Make one: new_kernel(...).")
    )


def spec(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def write_sources(folder: Path, sources: dict[str, str], pattern: str | None) -> None:
    allowed = [name for name in SOURCES if not (pattern and name == "oracle.py")]
    for name, text in sources.items():
        if name not in allowed:
            judge = f" The oracle of {pattern} is the skill's." if name == "oracle.py" and pattern else ""
            raise ToolError(f"'{name}' is no source you can give. They are {', '.join(allowed)}.{judge}")
        if not isinstance(text, str) or len(text.encode()) > LARGEST_SOURCE:
            raise ToolError(f"sources['{name}'] must be the file's text, at most {LARGEST_SOURCE:,} bytes.")
    target = folder / "sources"
    if folder.is_symlink() or target.is_symlink():
        raise ToolError(f"{target} is a link. Remove it.")
    target.mkdir(parents=True, exist_ok=True)
    for name, text in sources.items():
        (target / name).unlink(missing_ok=True)
        (target / name).write_text(text, encoding="utf-8")


def evidence(folder: Path, state: str) -> dict[str, Any] | None:
    text = read(folder, f"{state}.json")
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"status", "reason", "parts"} <= found.keys() else None


def read(folder: Path, name: str) -> str | None:
    """A file of the evidence; None where there is none, or a link."""
    if (folder / "evidence").is_symlink():
        return None
    try:
        with os.fdopen(os.open(folder / "evidence" / name, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read(LARGEST_FILE).decode("utf-8", "replace")
    except OSError:
        return None


def forget(folder: Path, state: str) -> None:
    """What an earlier run of a state found must not be taken for this one's."""
    if (folder / "evidence").is_symlink():
        (folder / "evidence").unlink()
    (folder / "evidence" / f"{state}.json").unlink(missing_ok=True)
