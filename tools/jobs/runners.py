"""Which runners there are. A new engine is one file beside this one and one line here."""

from collections.abc import Callable

from tools.context import ToolError
from tools.jobs import Runner
from tools.jobs.local import LocalRunner

RUNNERS: dict[str, Callable[[], Runner]] = {"local": LocalRunner}


def runner(name: str) -> Runner:
    if name not in RUNNERS:
        raise ToolError(f"There is no runner '{name}' here. There are: {', '.join(RUNNERS)}.")
    return RUNNERS[name]()
