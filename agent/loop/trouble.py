"""A cell that failed, in words the model can act on: what went wrong and where in its own code, not in libraries."""

import re

from agent.sandbox.open import Cell

ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]")
FRAME = re.compile(r"^(?:Cell In|File )")
OWN = re.compile(r"^(?:Cell In|File /home/user/(?!\.venv))")
LONGEST = 30
KERNEL_DIED = (
    "The Python process died ({why}). All variables, imports and functions are lost; files are kept and the tools are "
    "there again. If memory was the reason, work in smaller pieces."
)


def plain(text: str) -> str:
    """Without terminal colours; progress bars keep only their last state."""
    text = ANSI.sub("", text).replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def headline(cell: Cell, deadline: float) -> str:
    """One line."""
    error = cell.execution.error
    if cell.kernel_lost:
        return KERNEL_DIED.format(why=plain(error.value) if error else "its stream was cut")
    if cell.end == "deadline":
        return f"The cell was stopped after {deadline:.0f} s. Variables are kept. Run long work in the background."
    if error is None:
        return "The connection to the cell broke, so it was stopped. Variables are kept; its last output is missing."
    return f"{error.name}: {plain(error.value)}".strip(": ")


def traceback(cell: Cell) -> str:
    """Only the frames of the model's own code, then the error."""
    error = cell.execution.error
    lines = [line for line in plain(error.traceback).strip().splitlines() if line.strip("-")] if error else []
    starts = [number for number, line in enumerate(lines) if FRAME.match(line)]
    if not starts:
        return "\n".join(lines[-LONGEST:])
    kept = lines[: starts[0]]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        last = end == len(lines)
        frame = lines[start:end]
        message = message_of(frame, error.name) if last and error else []
        body = frame[: len(frame) - len(message)]
        kept += body if OWN.match(lines[start]) else []
        kept += message
    return "\n".join(kept if len(kept) <= LONGEST else [*kept[: LONGEST // 2], "…", *kept[-LONGEST // 2 :]])


def missing(cell: Cell) -> str:
    """The absolute path that a FileNotFoundError names, else nothing."""
    error = cell.execution.error
    named = re.search(r"/[^'\"\n]+", plain(error.value)) if error and error.name == "FileNotFoundError" else None
    return named[0].rstrip() if named else ""


def message_of(frame: list[str], name: str) -> list[str]:
    """The end of the last frame, from the line that names the error on."""
    for number, line in enumerate(frame):
        if number and line.startswith(name.rpartition(".")[2]):
            return frame[number:]
    return frame[-1:]
