"""The model's hand on files: `fetch` copies what lies on the person's machine into the sandbox, `keep` the other way.

What may be fetched: what is below the session's folder and what runs and kernels wrote, nothing hidden and nothing of
our own home folder besides. What is kept becomes an artifact of the session, under a name nothing had before.
"""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from e2b import FileNotFoundException, SandboxException

from agent.loop.given import HOME, LARGEST_NAMED, Given, copy
from agent.sandbox.open import Sandbox
from agent.toolbox import Tool
from tools import envelope
from tools.context import Context, ToolError, here, inside
from tools.declare import Declaration

OURS = ("runs", "kernels", "artifacts")  # below MODELSMITH_HOME
MOST_FILES = 500
LARGEST_KEPT = 2 * 1024**3


def carrying_tools(
    given: Given, sandbox: Callable[[], Sandbox], artifacts: Path, kept: Callable[[Path], None]
) -> dict[str, Tool]:
    """`kept` is told of each new artifact."""

    def fetch(path: str) -> dict:
        """Copy a file or folder that a tool wrote, or of the person's folder, into the sandbox.

        Args:
            path: As a tool's result names it, or relative to the person's folder.
        """
        found = readable(path)
        files = [found] if found.is_file() else sorted(one for one in found.rglob("*") if one.is_file())
        files = [one for one in files if one == found or visible(one.relative_to(found))]
        if len(files) > MOST_FILES or sum(one.stat().st_size for one in files) > LARGEST_NAMED:
            limit = LARGEST_NAMED // 1024**2
            raise ToolError(f"{path} holds more than {MOST_FILES} files or {limit} MB. Fetch only what you need of it.")
        top = f"{HOME}/{name_inside(found)}"
        for one in files:
            here().check()
            place = top if one == found else f"{top}/{one.relative_to(found).as_posix()}"
            copy(sandbox(), place, one)
            given.inside[place] = one  # so that a new sandbox has them, too
        return envelope.text(f"Now in the sandbox: {top}", path=top, files=len(files))

    def keep(path: str, name: str | None = None) -> dict:
        """Keep a file of the sandbox on the person's machine: for the person, and as input for tools.

        Args:
            path: The file in the sandbox.
            name: What to call it there.
        """
        source = str(PurePosixPath(HOME, path))
        place = free_place(artifacts, PurePosixPath(name or source).name)
        try:
            info = sandbox().remote.files.get_info(source)
            if info.size > LARGEST_KEPT:
                raise ToolError(f"{path} has {info.size:,} bytes, more than the {LARGEST_KEPT:,} that can be kept.")
            with place.open("xb") as file:
                for piece in sandbox().remote.files.read(source, format="stream"):
                    here().check()
                    file.write(piece)
        except (FileNotFoundException, SandboxException) as error:
            place.unlink(missing_ok=True)
            raise ToolError(f"{path} cannot be kept: {error}. Give the path of a file, not of a folder.") from None
        except BaseException:
            place.unlink(missing_ok=True)
            raise
        kept(place)
        return envelope.file(str(place), place.name, place.stat().st_size)

    return {function.__name__: Tool(function.__name__, function, Declaration("free")) for function in (fetch, keep)}


def readable(path: str) -> Path:
    """Where a path leads on the host, if what lies there may go into the sandbox."""
    context = here()
    found = (context.folder / Path(path).expanduser()).resolve()
    home, folder = context.home.resolve(), context.folder.resolve()
    rooms = [home / name for name in OURS]
    if not home.is_relative_to(folder) or not found.is_relative_to(home):
        rooms.append(folder)
    room = next((room for room in rooms if found.is_relative_to(room)), None)
    if room is None or room == Path("/") or not visible(found.relative_to(room)):
        raise ToolError(
            f"{path} may not be fetched: only what lies in {folder}, not hidden, or is a run, kernel or artifact. "
            "Let a tool write below that folder."
        )
    if not found.exists():
        raise ToolError(f"There is no {found} on the person's machine.")
    return found


def fetchable(path: str, context: Context) -> bool:
    with inside(context):
        try:
            return bool(readable(path))
        except (ToolError, OSError, ValueError, RuntimeError):  # a NUL in it, a loop of links: no path of this machine
            return False


def name_inside(found: Path) -> Path:
    """The path it has in the person's folder, so that it means the same in the sandbox."""
    for top in (here().folder.resolve(), here().home.resolve()):
        if found != top and found.is_relative_to(top):
            return found.relative_to(top)
    return Path(found.name or "files")


def visible(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts)


def free_place(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = name.lstrip(".") or "file"
    stem, suffix = Path(name).stem, Path(name).suffix
    names = [name, *(f"{stem}-{number}{suffix}" for number in range(2, 1000))]
    return next(folder / one for one in names if not (folder / one).exists())
