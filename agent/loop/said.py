"""An answer as an event holds it."""

import json
from typing import Any

LARGEST_ENVELOPE = 8 * 1024 * 1024  # in the log; a larger one is told in pieces of text


def said(answer: Any) -> dict[str, Any]:
    """An envelope as it is, unless it is too large to be one; else text."""
    if isinstance(answer, dict) and "type" in answer and len(json.dumps(answer)) <= LARGEST_ENVELOPE:
        return {"envelope": answer}
    return {"text": as_text(answer)}


def as_text(answer: Any) -> str:
    if answer is None:
        return "(no answer)"
    if isinstance(answer, str):
        return answer
    return f"```json\n{json.dumps(answer, indent=2, default=str)}\n```"
