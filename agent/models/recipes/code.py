"""Run a piece of Python the person wrote into the task."""

import re

from agent.models.recipes.transcript import Recipe, Turn, block

GIVEN = re.compile(
    r"^(?:please )?run(?: this)?(?: python)?(?: code)?:\s*(?:```(?:python)?\n)?(?P<code>.+?)(?:\n```)?\s*$", re.S | re.I
)


def run(found: re.Match[str], turn: Turn) -> str:
    return block("I run your code.", found["code"])


def tell(found: re.Match[str], turn: Turn) -> str:
    return block("That was its output.", f"final_answer({'```text' + chr(10) + turn.outputs[0] + chr(10) + '```'!r})")


RECIPES = [Recipe("run code", "run: print(6 * 7)", GIVEN, (run, tell))]
