"""The texts the model gets, rendered from `prompts/`. The system prompt is the same for a whole session as far as it
can be, so that a server's prefix cache keeps it: what changes from turn to turn comes with the task."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from agent.toolbox import Tool

FOLDER = Path(__file__).parents[2] / "prompts"


@cache
def environment() -> Environment:
    return Environment(loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True, autoescape=False)


def render(name: str, **values: Any) -> str:
    return environment().get_template(f"{name}.md").render(**values).strip()


def system(tools: Iterable[Tool], place: str, catalog: str = "", bodies: Iterable[Any] = ()) -> str:
    """Everything before the person's words."""
    return render("system", tools=list(tools), place=place, catalog=catalog, bodies=list(bodies))
