"""What the model reads: the conversation as messages, kept within its window.

Tasks and answers are never dropped. What goes first are old outputs, then old code, and only when that is not enough is
the model asked for a summary. Sizes are estimated (four bytes a token) and corrected by what servers report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from smolagents.memory import ActionStep, AgentMemory, TaskStep
from smolagents.models import ChatMessage, MessageRole

from agent.models.base import tokens

UNKNOWN_WINDOW = 32_768
FULL = 0.70  # of the window: where compaction begins
GOAL = 0.50  # and what it works down to, in one go, so that a server's prefix cache is lost seldom
FRESH = 3  # the last steps stay whole as long as anything else can go
STUB = 400  # characters that are left of an old output


def as_dict(message: ChatMessage) -> dict[str, Any]:
    role = message.role.value if isinstance(message.role, MessageRole) else str(message.role)
    parts = message.content if isinstance(message.content, list) else [{"text": message.content or ""}]
    return {"role": role, "content": "\n".join(str(part.get("text", "")) for part in parts)}


@dataclass
class Context:
    """`summarise(messages)` asks the model, and gives nothing when it does not answer; `window` may be learned late."""

    summarise: Callable[[list[dict[str, Any]]], str]
    window: int | None = None
    reserve: int = 4096  # tokens kept free for the answer
    ratio: float = 1.0  # what the server counted, by what we estimated
    told: list[str] = field(default_factory=list)  # what compaction did, for the log
    plan: str = ""  # the last one that the model showed

    @property
    def limit(self) -> int:
        window = self.window or UNKNOWN_WINDOW
        return max(1024, window - min(self.reserve, window // 4))

    def observation_cap(self) -> int:
        """Characters of one output: a sixth of the window, between 1,500 and 20,000."""
        return max(1500, min(20_000, self.limit * 4 // 6))

    def learn(self, estimated: int, counted: int) -> None:
        """A server's own count of a prompt; outliers are someone else's cache, not our text."""
        if estimated > 500 and 0.3 < counted / estimated < 3:
            self.ratio = 0.7 * self.ratio + 0.3 * counted / estimated

    def size(self, messages: list[dict[str, Any]]) -> int:
        return int(self.ratio * sum(tokens(message["content"]) + 4 for message in messages))

    # -- messages ----------------------------------------------------------------------------------------------------

    def messages(self, memory: AgentMemory) -> list[dict[str, Any]]:
        """The conversation within the window; compacts the memory itself when it has grown too large."""
        found = self.build(memory)
        if self.size(found) > self.limit * FULL:
            self.compact(memory, int(self.limit * GOAL))
            found = self.build(memory)
        return found

    @staticmethod
    def build(memory: AgentMemory) -> list[dict[str, Any]]:
        found = [as_dict(message) for message in memory.system_prompt.to_messages()]
        for step in memory.steps:
            found += step_messages(step)
        return merged(found)

    def overflowed(self, memory: AgentMemory, window: int | None) -> None:
        """The server said it is too much: believe it, and not our own count."""
        size = self.size(self.build(memory))
        self.ratio *= max(1.0, (window or self.window or UNKNOWN_WINDOW) / size)
        if window:
            self.window = window
        else:
            self.window = int((self.window or UNKNOWN_WINDOW) * 0.7)
        self.compact(memory, int(self.limit * GOAL))

    # -- compaction --------------------------------------------------------------------------------------------------

    def compact(self, memory: AgentMemory, goal: int) -> None:
        """Cheapest first; stops as soon as the goal is reached."""
        before = self.size(self.build(memory))
        for measure in (cut_old_outputs, cut_old_code, self.sum_up, cut_fresh_outputs):
            if self.size(self.build(memory)) <= goal:
                break
            measure(memory)
        after = self.size(self.build(memory))
        if after < before:
            self.told.append(f"The conversation was shortened from about {before:,} to {after:,} tokens.")

    def sum_up(self, memory: AgentMemory) -> None:
        """All but the last steps become one summary, written by the model; tasks stay as they were said."""
        old = memory.steps[:-FRESH]
        actions = [step for step in old if isinstance(step, ActionStep)]
        if len(actions) < 2:
            return
        shortened = [message for step in old for message in step_messages(step)]
        summary = self.summarise(fit(shortened, self.limit // 2)) or in_short(actions)
        tasks = [step for step in old if isinstance(step, TaskStep)]
        plan = f"\n\n[The plan you showed]\n{self.plan}" if self.plan else ""
        memory.steps[:-FRESH] = [*tasks, TaskStep(task=f"[What was done so far, in short]\n{summary}{plan}")]


def as_task(text: str, notes: Sequence[str] = ()) -> str:
    """A person's words as they stand in the conversation; what the model must know first comes before them."""
    return "\n\n".join([*notes, f"Task:\n{text}"])


def step_messages(step: Any) -> list[dict[str, Any]]:
    if isinstance(step, TaskStep):
        return [{"role": "user", "content": step.task}]
    if not isinstance(step, ActionStep):
        return [as_dict(message) for message in step.to_messages()]
    found = []
    if step.model_output:
        found.append({"role": "assistant", "content": str(step.model_output)})
    told = []
    if step.observations is not None and not step.is_final_answer:
        told.append(f"Output:\n{step.observations}")
    if step.error is not None:
        told.append(str(step.error.message))
    if told:
        found.append({"role": "user", "content": "\n\n".join(told)})
    return found


def merged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours of one role as one message: some chat templates demand that roles take turns."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if found and found[-1]["role"] == message["role"]:
            found[-1] = {**message, "content": f"{found[-1]['content']}\n\n{message['content']}"}
        else:
            found.append(dict(message))
    return found


def actions(memory: AgentMemory) -> list[ActionStep]:
    return [step for step in memory.steps if isinstance(step, ActionStep)]


def cut_old_outputs(memory: AgentMemory) -> None:
    for step in actions(memory)[:-FRESH]:
        step.observations = cut(step.observations, STUB)


def cut_fresh_outputs(memory: AgentMemory) -> None:
    for step in actions(memory):
        step.observations = cut(step.observations, STUB * 4)


def cut_old_code(memory: AgentMemory) -> None:
    for step in actions(memory)[:-FRESH]:
        step.model_output = cut(str(step.model_output or ""), STUB * 2)


def cut(text: str | None, most: int) -> str | None:
    if text is None or len(text) <= most + 40:
        return text
    return f"{text[: most // 2]}\n[… cut …]\n{text[-most // 2 :]}"


def in_short(steps: list[ActionStep]) -> str:
    """What is left when the model cannot sum up: how each step began."""
    begun = [str(step.model_output or "").strip().split("\n")[0][:200] for step in steps]
    return "\n".join(line for line in begun if line)[-STUB * 10 :]


def fit(messages: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The messages, each cut so that all together stay under a number of tokens."""
    each = max(200, limit * 4 // max(1, len(messages)))
    return [{**message, "content": cut(message["content"], each)} for message in messages]
