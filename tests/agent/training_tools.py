"""Trainings as far as a session cares: begun, told of as events, looked at; each is a file of the home folder."""

from tools import envelope
from tools.context import ToolError, here
from tools.declare import tool


@tool("free")
def begin(run: str) -> dict:
    """Begin a training and tell of it."""
    (here().home / run).write_text("running")
    here().tell("job", {"id": run, "run": run, "state": "running"})
    return envelope.job(run, "running")


@tool("free")
def end(run: str) -> dict:
    """See a training fail."""
    (here().home / run).write_text("failed")
    return run_status(run)


@tool("free")
def run_status(run: str) -> dict:
    """How a training stands."""
    if not (here().home / run).exists():
        raise ToolError(f"There is no run '{run}'.")
    state = (here().home / run).read_text()
    here().tell("job", {"id": run, "run": run, "state": state})
    return envelope.job(run, state)
