"""Ways to show a session: each takes the events of the store in their order, once each, and writes them down.

`choose` takes the one for this terminal and these flags. A view knows events and nothing of agents, stores or threads;
it may be as slow as its terminal, for the run does not wait for it.
"""

import os
import sys
from pathlib import Path

from agent.cli.view.base import View

__all__ = ["View", "choose"]


def choose(home: Path, json: bool = False, quiet: bool = False) -> View:
    """JSON lines, the answer alone, a live view on a terminal, else plain text."""
    # A file or terminal with a small character set must not stop a run.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if json:
        from agent.cli.view.events import JsonView

        return JsonView(sys.stdout)
    if quiet:
        from agent.cli.view.events import QuietView

        return QuietView(sys.stdout)
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from agent.cli.view.live import LiveView

        return LiveView(home)
    from agent.cli.view.plain import PlainView

    return PlainView(sys.stdout, home)
