"""A session as a file for people (Markdown) and for programs (JSON lines).

Both are built from the events alone, joined where they were streamed. What a model or a program wrote stands in fences
that it can't close, except the answer, which is Markdown already.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from agent.events import STREAMED, Event


def markdown(header: dict[str, Any], events: Iterable[Event]) -> str:
    lines = [f"# {_line(header['title'] or header['id'])}", ""]
    lines += [
        f"- session: `{header['id']}`",
        f"- begun: {_when(header['created'])}",
        f"- model: {header['model'] or '-'}",
    ]
    for type_, data in joined(events):
        lines += ["", *_block(type_, data)]
    return "\n".join(lines) + "\n"


def json_lines(header: dict[str, Any], events: Iterable[Event]) -> str:
    """First line: the session. Then one event a line, as every front end gets it."""
    first = json.dumps({"format": "modelsmith-session", "version": 1, "session": header}, ensure_ascii=False)
    return "\n".join([first, *(event.to_json() for event in events)]) + "\n"


def joined(events: Iterable[Event]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events with neighbouring pieces of one stream put together."""
    last: tuple[str, dict[str, Any]] | None = None
    for event in events:
        piece = event.type in STREAMED and "text" in event.data and "envelope" not in event.data
        if last and piece and last[0] == event.type and _stream(last[1]) == _stream(event.data):
            last[1]["text"] += event.data["text"]
            continue
        if last:
            yield last
        last = (event.type, dict(event.data)) if piece else None
        if not piece:
            yield event.type, event.data
    if last:
        yield last


def _stream(data: dict[str, Any]) -> tuple:
    return data.get("step"), data.get("stream")


def _block(type_: str, data: dict[str, Any]) -> list[str]:
    text = str(data.get("text", ""))
    if type_ == "task":
        return ["## Task", "", *_quote(text)]
    if type_ == "thought":
        return ["<details><summary>thought</summary>", "", *_fence(text, "text"), "", "</details>"]
    if type_ == "code":
        return _fence(text, data.get("language") or "python")
    if type_ == "output":
        return _fence(text, "text")
    if type_ == "answer" and "envelope" not in data:
        return ["## Answer", "", text.strip()]
    if type_ == "answer":
        return ["## Answer", "", *_fence(json.dumps(data["envelope"], indent=1, ensure_ascii=False), "json")]
    if type_ == "error":
        return [f"**error** {_code(text)}"]
    if type_ == "state":
        return [f"*{data.get('state')}* {_code(data['reason']) if data.get('reason') else ''}".rstrip()]
    return [f"- {type_}: {_code(json.dumps(data, ensure_ascii=False))}"]


def _fence(text: str, language: str) -> list[str]:
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return [f"{fence}{re.sub(r'[^A-Za-z0-9+-]', '', language)}", text.rstrip("\n"), fence]


def _code(text: str) -> str:
    ticks = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    return f"{ticks} {_line(text)} {ticks}"


def _quote(text: str) -> list[str]:
    return [f"> {line}".rstrip() for line in text.splitlines() or [""]]


def _line(text: str) -> str:
    return " ".join(text.split())


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
