"""What a recipe sees: the task and what its own code blocks have printed so far in this turn."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from agent.models.errors import ModelError

TASK = "Task:\n"
OUTPUT = "Output:\n"


@dataclass
class Turn:
    task: str
    outputs: list[str] = field(default_factory=list)  # one for each block that was run

    @property
    def step(self) -> int:
        return len(self.outputs)


@dataclass(frozen=True)
class Recipe:
    """`pattern` must be found in the task; `steps` are functions from the match and the turn to an answer."""

    name: str
    example: str
    pattern: re.Pattern[str]
    steps: tuple[Callable[[re.Match[str], Turn], str], ...]

    def answer(self, turn: Turn) -> str | None:
        found = self.pattern.search(turn.task)
        if found is None:
            return None
        return self.steps[min(turn.step, len(self.steps) - 1)](found, turn)


def read(messages: list[dict]) -> Turn:
    """The last task of the conversation and the outputs after it."""
    turn = Turn("")
    for message in messages:
        if message["role"] != "user":
            continue
        content = str(message["content"])
        if TASK in content:
            turn = Turn(content.rpartition(TASK)[2].strip())
        else:
            turn.outputs.append(content.removeprefix(OUTPUT))
    return turn


def block(words: str, code: str) -> str:
    return f"{words}\n<code>\n{code.strip()}\n</code>"


def failed(turn: Turn) -> bool:
    return bool(turn.outputs) and "Traceback" in turn.outputs[-1]


def step(turn: Turn, words: str, code: str) -> str:
    """The next block, if the one before did its work."""
    if failed(turn):
        give_up(turn)
    return block(words, code)


def one_call(turn: Turn, words: str, call: str) -> str:
    """A task that one tool answers."""
    return step(turn, words, f"final_answer({call})")


def give_up(turn: Turn) -> NoReturn:
    """A recipe knows no other way: the turn ends as failed, with what stood in its way."""
    last = (turn.outputs[-1].strip().splitlines() or ["nothing was said"])[-1]
    raise ModelError(f"The recipe cannot go on: {last}")
