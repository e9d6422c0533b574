"""The texts the model gets, rendered from `prompts/`. The system prompt is the same for a whole session as far as it
can be, so that a server's prefix cache keeps it: what changes from turn to turn comes with the task."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from agent.toolbox import Tool

LIMIT = 4_000  # tokens before the person's words, with all tools and skills; four bytes are one
FOR_PLACE, FOR_BODIES = 200, 1_550  # what is kept of them for where the code runs and for skills that fit the task
LEAST_CATALOG = 200
FOLDER = Path(__file__).parents[2] / "prompts"


@cache
def environment() -> Environment:
    return Environment(loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True, autoescape=False)


def render(name: str, **values: Any) -> str:
    return environment().get_template(f"{name}.md").render(**values).strip()


def system(tools: Iterable[Tool], place: str, catalog: str = "", bodies: Iterable[Any] = ()) -> str:
    """Everything before the person's words."""
    return render("system", tools=list(tools), place=place, catalog=catalog, bodies=list(bodies))


def size(text: str) -> int:
    return -(-len(text.encode()) // 4)


def room_for_catalog(tools: Iterable[Tool]) -> int:
    """The same in each turn, so that the beginning of the prompt is the same, too."""
    return max(LEAST_CATALOG, LIMIT - size(system(tools, "")) - FOR_PLACE - FOR_BODIES)


def room_for_bodies(text: str) -> int:
    """What a prompt without any leaves for them."""
    return max(0, LIMIT - size(text))
