"""What every model here is: something with `generate`, and the plain data that comes out of it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

OnDelta = Callable[[Literal["think", "text"], str], None]
StopAt = Literal["block"] | Sequence[str] | None  # after the first code block, before one of these strings, or nowhere


@dataclass(frozen=True)
class Usage:
    """Tokens of one call; estimated when the server did not say, or when the stream was left before it could."""

    prompt: int
    completion: int
    estimated: bool


@dataclass(frozen=True)
class Reply:
    """One answer. `finish` is the server's word, or "cut" when we stopped reading on purpose."""

    text: str
    reasoning: str
    usage: Usage
    finish: str
    seconds: float
    first_token: float | None = None


@runtime_checkable
class Model(Protocol):
    """Streams inside `generate`; ends with a Reply or raises one of agent.models.errors."""

    window: int | None

    def generate(
        self,
        messages: list[dict],
        *,
        on_delta: OnDelta = ...,
        cancel: threading.Event | None = None,
        stop_at: StopAt = "block",
    ) -> Reply: ...


@dataclass
class Strings:
    """Follows a growing text and says when one of these strings has come; cost linear in the text. The answer of `feed`
    is negative when the string began in an earlier piece."""

    strings: Sequence[str]
    _tail: str = field(default="", init=False)

    def feed(self, piece: str) -> int | None:
        text = self._tail + piece
        found = [at for at in (text.find(string) for string in self.strings) if at >= 0]
        if found:
            return min(found) - len(self._tail)
        keep = max((len(string) for string in self.strings), default=1) - 1
        self._tail = text[max(0, len(text) - keep) :] if keep else ""
        return None


def ignore_delta(kind: str, piece: str) -> None:
    """The listener of callers that only want the reply."""


def ignore_notice(line: str) -> None:
    """Nobody wants to hear of retries."""


def tokens(text: str) -> int:
    """An estimate where nobody counted: four bytes a token."""
    return -(-len(text.encode(errors="replace")) // 4)


def flat(messages: list[dict]) -> list[dict]:
    """Contents as plain strings, which every server takes."""
    return [{**message, "content": content_text(message.get("content"))} for message in messages]


def content_text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)
    return "" if content is None else str(content)
