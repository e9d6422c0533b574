"""What a tool gave back, in front of a person: as JSON, as shapes on a terminal, as Markdown in a file or pipe."""

import json
import sys
from typing import Any

from agent.cli.view.clean import clean, columns
from tools.envelope import markdown_of


def show_result(result: Any, as_json: bool) -> None:
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if as_json:
        print(json.dumps(result, indent=2, default=str))
    elif not isinstance(result, dict) or "type" not in result:
        print(clean(str(result)))
    elif sys.stdout.isatty():
        from rich.console import Console

        from agent.cli.view import shapes

        console = Console(highlight=False, markup=False, emoji=False)
        for shape in shapes.envelope(result):
            console.print(shape)
    else:
        print(clean(markdown_of(result)))


def fitted(line: str) -> str:
    """A row of a list: on a terminal cut to its width, else whole."""
    width = columns() if sys.stdout.isatty() else 0
    return line if not width or len(line) <= width else f"{line[: width - 1]}…"
