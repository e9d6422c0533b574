"""One model answer in, one thing to do out: run this code, show this prose, or ask again.

Promise: at most one block is run, the first that is Python; thoughts, invented output and later blocks never are.
Code is given out exactly as written but for its common indent and blank edges. Prose counts as an answer to the
person unless it looks like an attempt that failed, then `problem` says to the model what to write instead.
"""

import re
from dataclasses import dataclass
from typing import Literal

from agent.models import blocks
from agent.models.thoughts import strip

HOW = "Answer with exactly one block: <code>, then Python, then </code>."

_TOOL_CALL = re.compile(
    r"<tool_call|<function[=_]|<function_call|<invoke\b|\[TOOL_CALLS?\]|<\|tool_?calls?|<\|python_tag\|>"
    r"|^\s*Action:\s*\S|^\s*Calling tools:|^\s*Action Input:",
    re.M | re.I,
)
_JSON_CALL = re.compile(
    r"""\{\s*"(?:name|function|tool|tool_name|action|function_name)"\s*:.*?"(?:arguments|parameters|args|input|action_input|
    tool_input|kwargs)"\s*:|"(?:tool_calls|function_call)"\s*:|\{\s*"(?:thought|thoughts)"\s*:.*?"code"\s*:""",
    re.S | re.X,
)
_STEPS = (
    r"load|run|write|inspect|check|start|look|try|create|build|install|fix|read|search|find|use|call|train|download|compute"
    r"|plot|print|explore|analy[sz]e|examine|first|now|begin|proceed|fetch|list|open|verify|test|evaluate|define|implement"
    r"|calculate|get|make|import|continue|execute|generate|prepare"
)
_PROMISE = re.compile(
    rf"\b(?:let me|let's|let us|I'll|I will|I'm going to|I am going to|I need to|we need to|I should|now I|next,? I"
    rf"|first,? I)(?: will| need to| have to| should| also| then| can| first| now)* (?:{_STEPS})\b"
    r"|^(?:Thought|Code|Plan|Step \d+)\s*:",
    re.I | re.M,
)
_NO_PROMISE = re.compile(r"let me know|if you|once you|when you|would you|do you|should you|as soon as you", re.I)
_BARE_CODE = re.compile(r"^(?:import \w|from [\w.]+ import |def \w+\(|final_answer\(|\w+ = \w+\(|print\(|[!%]\w)", re.M)
_TAIL_TOKENS = re.compile(r"(?:<\|[a-z_]+\|>|</s>|\s)+\Z")


@dataclass(frozen=True)
class Answer:
    """`problem` is a note to the model beside the code, or the whole request when kind is "repair"."""

    kind: Literal["code", "prose", "repair"]
    code: str | None
    prose: str
    problem: str | None = None


def parse(text: str) -> Answer:
    """What one model answer asks for."""
    text, thoughts = strip(text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"))
    found = list(blocks.blocks(text))
    first = next((block for block in found if blocks.is_code(block)), None)
    if first is None:
        return _without_code(_TAIL_TOKENS.sub("", text).strip(), found, thoughts)
    prose = _before_code(text[: first.start])
    if not first.closed and not first.whole:
        return _repair(prose, "Your code block has no end and does not compile, so it was cut off and not run.")
    return Answer("code", first.code, prose, _note(text, first, found))


def _before_code(prose: str) -> str:
    return re.sub(r"\s*^[ \t*#]*Code\s*:?[ \t*]*\s*\Z", "", prose.strip(), flags=re.M | re.I).strip()


def _note(text: str, first: blocks.Block, found: list[blocks.Block]) -> str | None:
    more = sum(blocks.is_code(block) for block in found if block.start >= first.end)
    if more:
        return f"You wrote {more + 1} code blocks; only the first was run. Write one and wait for its output."
    if re.match(r"\W*(?:observation|execution|output|result|out\[|last output)", text[first.end :], re.I):
        return "You wrote output after the code; it was dropped. Only what the code really prints counts."
    return None


def _without_code(prose: str, found: list[blocks.Block], thoughts: str) -> Answer:
    if not prose:
        only = "only thoughts and no answer" if thoughts else "nothing"
        return _repair("", f"Your answer held {only}.")
    if _TOOL_CALL.search(prose) or _JSON_CALL.search(prose):
        return _repair(prose, "There are no tool calls here: tools are Python functions you call in code.")
    shell = next((block for block in found if block.lang in blocks.SHELL), None)
    if shell:
        return _repair(prose, 'A shell block is not run. Write it as Python: !command, or subprocess.run(["command"]).')
    outside = _outside(prose, found)
    if any(block.lang in ("json", "jsonc", "json5") for block in found) and len(outside) < 40:
        return _repair(
            prose, "A JSON block is not run. Call the tool in Python, or pass the value to final_answer(...)."
        )
    if any(block.lang in blocks.PYTHON and not block.code for block in found):
        return _repair(prose, "Your code block is empty.")
    if _BARE_CODE.search(outside) and blocks.does_something(_longest_code(outside)):
        return _repair(prose, "There is code in your answer, but in no block, so it was not run.")
    if _announces(outside) and not any(block.code for block in found):
        return _repair(prose, "You announced a step, but wrote no code for it.")
    return Answer("prose", None, prose)


def _outside(prose: str, found: list[blocks.Block]) -> str:
    for block in found:
        if block.code:
            prose = prose.replace(block.code, "")
    return re.sub(r"^[ \t]*[`~]{3,}.*$", "", prose, flags=re.M).strip()


def _longest_code(prose: str) -> str:
    """From the first line that looks like code on, as far as it compiles."""
    begin = _BARE_CODE.search(prose)
    lines = prose[begin.start() :].split("\n")[:200] if begin else []
    for count in range(len(lines), 0, -1):
        if blocks.state("\n".join(lines[:count])) == "whole":
            return "\n".join(lines[:count])
    return ""


def _announces(prose: str) -> bool:
    """Whether the answer ends on the promise of a step: its last sentence says what comes now, or ends in a colon."""
    last_paragraph = re.split(r"\n\s*\n", prose)[-1].strip()
    last = re.split(r"(?<=[.!?。])\s+", last_paragraph)[-1]
    if last.endswith("?") or _NO_PROMISE.search(last_paragraph):
        return False
    return last.endswith(":") or bool(_PROMISE.search(last))


def _repair(prose: str, problem: str) -> Answer:
    return Answer("repair", None, prose, f"{problem} {HOW}")
