"""The person's files: which they gave or named, and how they get into the sandbox."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.errors import UserError
from agent.sandbox.open import Sandbox

HOME = "/home/user"
AROUND = "\"'`,;:()[]"
QUOTED = re.compile(r"""(["'`])[^"'`\n]+\1""")
LARGEST_NAMED = 200 * 1024 * 1024  # a larger file goes into the sandbox only when it is given explicitly


class Given:
    """`inside` maps a path in the sandbox to the file on the host. `cwd` is where the person stands; who is confined
    gives nothing from outside of it by naming it."""

    def __init__(self, cwd: Path, confined: bool = False):
        self.cwd, self.confined = cwd, confined
        self.inside: dict[str, Path] = {}

    def take(self, files: Sequence[Path], sandbox: Sandbox | None) -> list[str]:
        """Paths in the sandbox; the files are copied at once if there is one already."""
        taken = []
        for path in files:
            if not path.is_file():
                raise UserError(f"There is no file {path}. Give the path of a file.")
            place = f"{HOME}/{self.name(path)}"
            self.inside[place] = path.resolve()
            if sandbox:
                copy(sandbox, place, path)
            taken.append(place)
        return taken

    def name(self, path: Path) -> Path:
        """The path as the person wrote it, so that it means the same in the sandbox; else the file's name."""
        below = Path(os.path.abspath(path))
        return below.relative_to(self.cwd) if below.is_relative_to(self.cwd) else Path(path.name)

    def named(self, task: str, given: Sequence[Path]) -> list[Path]:
        """Files the task names by a path that exists where the person stands: saying it is giving it."""
        words = (word for word in likely(task) if "." in word or "/" in word)
        paths = (self.cwd / Path(word).expanduser() for word in words)
        known = {path.resolve() for path in given} | set(self.inside.values())
        found = {path.resolve(): path for path in paths if fits(path)}
        if self.confined:
            found = {real: path for real, path in found.items() if real.is_relative_to(self.cwd.resolve())}
        return [path for resolved, path in found.items() if resolved not in known]

    def told(self) -> list[str]:
        """For the model: each path below the working folder, and what tools call it where that is something else."""
        names = ((place.removeprefix(f"{HOME}/"), path) for place, path in self.inside.items())
        return [
            name if (self.cwd / name).resolve() == path.resolve() else f"{name} (for tools: {path})"
            for name, path in names
        ]

    def settle(self, sandbox: Sandbox) -> None:
        """Into a sandbox that is new to them, unless they are there from before."""
        for place, path in self.inside.items():
            if not sandbox.remote.files.exists(place):
                copy(sandbox, place, path)


def likely(task: str) -> Iterator[str]:
    """What may be a path: each word and what stands between quotes, also without the sign that ends a sentence."""
    for word in [*(found[0][1:-1] for found in QUOTED.finditer(task)), *task.split()]:
        yield word.strip(AROUND)
        yield word.strip(f"{AROUND}?!").rstrip(f"{AROUND}?!.")


def copy(sandbox: Sandbox, place: str, path: Path) -> None:
    with path.open("rb") as file:
        sandbox.remote.files.write(place, file)


def fits(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= LARGEST_NAMED
    except OSError:
        return False
