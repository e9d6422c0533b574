"""A kernel project on disk: where its parts lie, its truth, and how what was built is loaded.

`kernel.json` in the project is what was asked and specified. A pattern's oracle is read from this skill; only for an op
that is no pattern it is what the author put into sources/, and then by its digest. The copy in tests/ is for readers.
"""

import hashlib
import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from schema import Schema, parse

SKILL = Path(__file__).resolve().parent.parent
PATTERNS = SKILL / "patterns"
COMMON = PATTERNS / "common"
SOURCES = ["oracle.py", "arguments.h", "kernel.cuh", "rows.h", "triton_kernel.py", "functions.py", "layers.py"]


class Mistake(Exception):
    """What a person or a model can mend; shown as one line."""


@dataclass(frozen=True)
class Project:
    folder: Path
    spec: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> "Project":
        path = Path(folder).resolve() / "kernel.json"
        if not path.exists():
            raise Mistake(f"{folder} is no kernel project: it has no kernel.json. Run spec.py first.")
        return cls(path.parent, json.loads(path.read_text(encoding="utf-8")))

    @property
    def name(self) -> str:
        """Its name on the Hub, with hyphens."""
        return self.spec["name"]

    @property
    def py_name(self) -> str:
        return self.name.replace("-", "_")

    @property
    def op(self) -> str:
        return self.spec["op"]

    @property
    def schema(self) -> Schema:
        return parse(self.spec["schema"])

    def sources(self) -> dict[str, Path]:
        """What the project is made from by file name: files in its sources/, the pattern's for the rest."""
        return sources_of(self.folder, self.spec["pattern"])

    def truth(self) -> ModuleType:
        """The oracle, which must still be what the spec was made with."""
        path = self.sources()["oracle.py"]
        if digest(path) != self.spec["oracle_sha256"]:
            raise Mistake(f"{path} is not the oracle this project was specified with. Run spec.py again.")
        return load_module("oracle", path)

    # what is under test: the project's own files

    def cuda_source(self) -> Path | None:
        return self.there(f"{self.op}_cuda/{self.op}_kernel.cuh")

    def cuda_glue(self) -> Path | None:
        return self.there(f"{self.op}_cuda/{self.op}.cu")

    def cpu_sources(self) -> list[Path]:
        return sorted((self.folder / f"{self.op}_cpu").glob("*.cpp"))

    def triton_source(self) -> Path | None:
        return self.there(f"triton/torch-ext/{self.py_name}_triton/kernel.py")

    def there(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.exists() else None

    # what was built

    def work(self, state: str) -> Path:
        """Where a state keeps what it builds for itself; not part of the project."""
        path = self.folder / ".work" / state
        path.mkdir(parents=True, exist_ok=True)
        return path

    def variant(self, backend: str) -> Path | None:
        """The newest build for cpu or cuda, in the layout the Hub has."""
        mark = "-cu" if backend == "cuda" else f"-{backend}-"
        found = [one for one in (self.folder / "build").glob("torch*") if mark in one.name]
        return max(found, key=lambda one: one.stat().st_mtime, default=None)

    def package(self, variant: Path) -> ModuleType:
        """Import a build into this process: `package.ops.<op>` is the raw op, `package.<op>` the function."""
        module = load_module(
            f"{self.py_name}_{variant.name.replace('-', '_').replace('.', '_')}", variant / "__init__.py"
        )
        module.ops = sys.modules[f"{module.__name__}._ops"].ops  # type: ignore[attr-defined]
        return module

    def triton(self) -> ModuleType:
        """Import the sibling in Triton; TRITON_INTERPRET must be set before if there is no GPU."""
        variant = self.folder / "triton" / "build" / "torch-cuda"
        return load_module(f"{self.py_name}_triton_package", variant / "__init__.py")

    def tree_hash(self) -> str:
        """Seven digits that name this state of the sources, `_dirty` when something is not committed."""
        tree = git(self.folder, "rev-parse", "--short=7", "HEAD^{tree}").strip()
        return tree + ("_dirty" if git(self.folder, "status", "--porcelain", "--untracked-files=no").strip() else "")


def sources_of(folder: Path, pattern: str | None) -> dict[str, Path]:
    """A pattern's oracle is never taken from the project: who writes a kernel does not write its judge."""
    own, found = folder / "sources", {}
    strangers = sorted(one.name for one in own.iterdir() if one.name not in SOURCES) if own.is_dir() else []
    if strangers:
        raise Mistake(f"No source of a kernel: {', '.join(strangers)}. The files are {', '.join(SOURCES)}.")
    for name in SOURCES:
        places = (
            [PATTERNS / pattern]
            if pattern and name == "oracle.py"
            else [own, *([PATTERNS / pattern] if pattern else [])]
        )
        if here := next((one / name for one in places if (one / name).is_file()), None):
            found[name] = here
    return found


def digest(path: Path) -> str:
    if not path.exists():
        raise Mistake(f"{path} is missing.")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(path.parent)])
    if spec is None or spec.loader is None or not path.exists():
        raise Mistake(f"{path} is missing.")
    if path.name != "__init__.py":
        spec.submodule_search_locations = None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


IDENTITY = ["-c", "user.name=kernel-builder", "-c", "user.email=kernel-builder@localhost", "-c", "commit.gpgsign=false"]


def git(folder: Path, *words: str) -> str:
    """git in the project alone: no settings of the person's, no hooks, no repository above it."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    env |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(
        ["git", "-c", "core.hooksPath=/dev/null", "-c", f"safe.directory={folder}", *IDENTITY, *words],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Mistake(f"git {words[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
