"""A rule-based stand-in for a language model: it reads the task, writes code blocks and speaks the same protocol.

It is no language model and says so. What it understands are the tasks listed in RECIPES; for anything else it says what
it can do and how to connect a model. It is the default when no model is found, and the driver of tests.
"""

import threading
import time

from agent.errors import UserError
from agent.models.base import OnDelta, Reply, StopAt, Usage, ignore_delta, tokens
from agent.models.errors import Cancelled
from agent.models.recipes import code, data, hub, kernels, train
from agent.models.recipes.transcript import Recipe, read

RECIPES: list[Recipe] = [
    *code.RECIPES,
    *kernels.RECIPES,
    *train.RECIPES,
    *data.RECIPES,
    *hub.RECIPES,
]  # the first that fits is taken


class Recipes:
    """A `Model` whose answers are rules."""

    window: int | None = None

    def generate(
        self,
        messages: list[dict],
        *,
        on_delta: OnDelta = ignore_delta,
        cancel: threading.Event | None = None,
        stop_at: StopAt = "block",
    ) -> Reply:
        started = time.monotonic()
        if cancel is not None and cancel.is_set():
            raise Cancelled("The call was cancelled.")
        turn = read(messages)
        text = next((answer for recipe in RECIPES if (answer := recipe.answer(turn)) is not None), None)
        if text is None:
            raise UserError(what_there_is())
        on_delta("text", text)
        prompt = sum(tokens(str(message["content"])) for message in messages)
        return Reply(text, "", Usage(prompt, tokens(text), True), "stop", time.monotonic() - started)


def what_there_is() -> str:
    able = "; ".join(f'"{recipe.example}"' for recipe in RECIPES)
    return (
        f"No language model is connected, and the built-in recipes understand only: {able}. "
        "For anything else connect a model: start a local server (`python -m agent models` shows which model fits this "
        "machine), or give --model http://host:8000/v1."
    )


def build() -> Recipes:
    return Recipes()
