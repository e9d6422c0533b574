"""Runs that went on while no agent looked: told to the model with its next task, as they stand by then."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from agent.toolbox import Tool
from tools.context import Context, ToolError, inside

NOTE = "[Run {name}, begun before, is now {state}. run_status({name!r}) tells more.]"
GONE = "[Run {name}, begun before: {why}]"


def notes(
    runs: Iterable[str], tools: dict[str, Tool], context: Context, emit: Callable[[str, dict[str, Any]], None]
) -> list[str]:
    """Looks at each; what it tells (state, metrics) becomes events of the session as it always does."""
    status = tools.get("run_status")
    found = []
    for name in runs if status else ():
        assert status
        try:
            with inside(replace(context, tell=emit)):
                found.append(NOTE.format(name=name, state=status.function(run=name)["state"]))
        except ToolError as error:
            found.append(GONE.format(name=name, why=error))
    return found
