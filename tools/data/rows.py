"""What a row that came out of the mapping must be: filled, of the right types, with known roles, ending in an answer.

A fault is told as ("empty" or "broken", why). Quality is not judged.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]
Fault = tuple[str, str] | None
ROLES = {"system", "developer", "user", "assistant", "tool"}
TALK = ("prompt", "completion", "chosen", "rejected", "messages")
TEXTS = ("text", "anchor", "positive", "negative", "sentence1", "sentence2")
OPTIONAL = {"input", "answer", "system", "tools", "objects", "boxes", "categories"}


def missing(row: Row, columns: dict[str, str]) -> Fault:
    """A needed column that is not there or holds nothing."""
    for role, name in columns.items():
        if role in OPTIONAL:
            continue
        value = row.get(name)
        if value is None or value == [] or (type(value) is str and not value.strip()):
            return "empty", f"{name!r} is {'missing' if name not in row else 'empty'}"
    return None


def fault(row: Row, method: str) -> Fault:
    """What is wrong with a mapped row."""
    for name in TALK:
        if name in row and (found := talk_fault(row[name], name)):
            return found
    for name in TEXTS:
        if name in row:
            value = row[name]
            if type(value) is not str:
                return "broken", f"{name!r} is {type(value).__name__}, not text"
            if not value.strip():
                return "empty", f"{name!r} is empty"
    if method == "embeddings" and not math.isfinite(row.get("score", 0)):
        return "broken", f"the score is {row['score']}"
    if "tokens" in row:
        return tags_fault(row)
    if method in ("classification", "image_classification") and type(row["label"]) not in (int, str):
        return "broken", f"the label is {type(row['label']).__name__}"
    if "chosen" in row and row["chosen"] == row["rejected"]:
        return "broken", "chosen and rejected are the same"
    return None


def talk_fault(value: Any, name: str) -> Fault:
    if type(value) is str:
        return None if value.strip() else ("empty", f"{name!r} is empty")
    if type(value) is not list:
        return "broken", f"{name!r} is {type(value).__name__}, neither text nor messages"
    if not value:
        return "empty", f"{name!r} has no messages"
    answered = False
    for message in value:
        if type(message) is not dict:
            return "broken", f"{name!r} holds {type(message).__name__} where a message should be"
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            return "broken", f"unknown role {str(role)[:30]!r} in {name!r}"
        if role == "assistant":
            answered = answered or bool(content) or bool(message.get("tool_calls"))
        if type(content) is str:
            if not content.strip() and role in ("user", "assistant") and not message.get("tool_calls"):
                return "empty", f"a message of the {role} in {name!r} is empty"
        elif content is None and not message.get("tool_calls"):
            return "empty", f"a message of the {role} in {name!r} is empty"
        elif content is not None and type(content) is not list:
            return "broken", f"content in {name!r} is {type(content).__name__}, not text"
    if name != "prompt" and not answered:
        return "empty", f"{name!r} has no answer of the assistant"
    return None


def tags_fault(row: Row) -> Fault:
    tags = next((row[name] for name in row if name != "tokens"), None)
    if type(tags) is not list or type(row["tokens"]) is not list:
        return "broken", "tokens or tags are no list"
    if len(tags) != len(row["tokens"]):
        return "broken", f"{len(row['tokens'])} tokens but {len(tags)} tags"
    return None


def text_of(row: Row) -> str:
    """All words of a mapped row, in order."""
    parts: list[str] = []
    for name, value in row.items():
        if type(value) is str:
            parts.append(value)
        elif type(value) is list and name != "tools":
            for one in value:
                if type(one) is dict:
                    parts += spoken(one)
                elif type(one) is str:
                    parts.append(one)
    return "\n".join(parts)


def spoken(message: Row) -> list[str]:
    content = message.get("content")
    parts = [content] if type(content) is str else []
    if type(content) is list:
        parts = [one["text"] for one in content if type(one) is dict and type(one.get("text")) is str]
    if message.get("tool_calls"):
        parts.append(str(message["tool_calls"]))
    return parts


def picture_of(row: Row) -> bytes:
    """What tells the images of a row from others."""
    found = row.get("image") or row.get("images")
    if not found:
        return b""
    seen = hashlib.blake2b(digest_size=16)
    for one in found if type(found) is list else [found]:
        told = (one.get("bytes") or one.get("path")) if type(one) is dict else one
        seen.update(told if type(told) is bytes else str(told).encode(errors="replace"))
    return seen.digest()


def asked_of(row: Row) -> str:
    """What is asked in a mapped row: the part that must not stand in two splits."""
    for name in ("prompt", "messages", "chosen", "anchor", "sentence1", "text"):
        value = row.get(name)
        if type(value) is str:
            return value
        if type(value) is list and value:
            said = [one for one in value if type(one) is dict and one.get("role") != "assistant"]
            return "\n".join(part for one in said for part in spoken(one))
    return ""


def turns_of(row: Row) -> int:
    """How many messages a chat template would wrap."""
    return sum(len(row[name]) for name in TALK if type(row.get(name)) is list)


def texts_in(value: Any) -> Iterator[str]:
    """Every text anywhere in a value."""
    if type(value) is str:
        yield value
    elif type(value) is dict:
        for one in value.values():
            yield from texts_in(one)
    elif type(value) is list:
        for one in value:
            yield from texts_in(one)
