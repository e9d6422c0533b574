"""How a call to a model can fail: one class for each thing the loop treats differently, one line for a person.

A message says what happened and what to do, and never holds a key: texts from servers are scrubbed before they come in.
`retryable` means that the same request may work in a moment. Overflow is recognised by the words servers use for it.
"""

import json
import re

from agent.models.base import Reply

_OVERFLOW = re.compile(
    r"maximum context length|context[_ ]length[_ ]exceeded|exceed_context_size|maximum model length|context overflow"
    r"|exceed\w*[^.\n]{0,40}(?:context (?:size|length|window)|sequence length)|context size has been exceeded"
    r"|longer than the (?:maximum )?(?:model|context)|context length of only|overflows?\. however"
    r"|reached context length"
    r"|greater than the context length|(?:prompt|input)s? (?:is |are )?too (?:long|large)|too many (?:input )?tokens"
    r"|requested token count exceeds|reduce (?:the length of the|your) (?:messages|input|prompt|message size)"
    r"|`?inputs`? tokens \+|max_tokens must be at least 1|current length is \d+ while limit",
    re.I,
)
_WINDOW = re.compile(
    r"context length (?:is|of)(?: only)? \(?(\d+)|context length \((\d+)|n_ctx\W{1,3}(\d+)|context size \((\d+)"
    r"|context length is only (\d+)|must be <= (\d+)|limit is (\d+)|maximum model length of (\d+)"
    r"|context window of (\d+)",
    re.I,
)
_PROMPT = re.compile(
    r"(\d+) in the messages|has (\d+) input tokens|input(?: length)? \((\d+)|n_prompt_tokens\W{1,3}(\d+)"
    r"|request \((\d+) tokens|passed (\d+) input tokens|prompt \(length (\d+)|keep the first (\d+) tokens"
    r"|given: (\d+) `inputs`|current length is (\d+)|(\d+) tokens from the input",
    re.I,
)
_SECRET = re.compile(r"\b(?:hf_|sk-|e2b_|gsk_|nvapi-|Bearer\s+)[\w.-]{6,}")


class ModelError(Exception):
    """`reply` holds what had come before the failure, for the log and the bill."""

    retryable = False
    status: int | None = None
    retry_after: float | None = None
    reply: Reply | None = None


class Cancelled(ModelError):
    """The person or a limit ended the call."""


class Unreachable(ModelError):
    """Nobody answered: no connection, or no first byte in time."""

    retryable = True


class Busy(ModelError):
    """The server is there and does not serve now: 429, 5xx, still loading."""

    retryable = True


class Refused(ModelError):
    """The server will not take this request, however often it is asked."""


class Overflow(ModelError):
    """The prompt, or the prompt with room for the answer, is larger than the window."""

    window: int | None = None
    prompt: int | None = None


class CutStream(ModelError):
    """The stream ended in the middle of an answer."""

    retryable = True


class Truncated(ModelError):
    """The answer reached the token limit and is incomplete."""


class EmptyAnswer(ModelError):
    """The server says it is done, and there is no text."""

    retryable = True


class Garbage(ModelError):
    """What came back is not the protocol."""


def scrub(text: str, key: str | None) -> str:
    """One line with no secrets in it."""
    if key:
        text = text.replace(key, "***")
    return re.sub(r"\s+", " ", _SECRET.sub("***", text)).strip()


def said(body: str) -> str:
    """The message inside an error body, however it is wrapped."""
    try:
        found = json.loads(body)
    except ValueError:
        return re.sub(r"<[^>]*>", " ", body)
    for _ in range(3):
        if isinstance(found, list) and found:
            found = found[0]
        if not isinstance(found, dict):
            break
        found = (
            found.get("error") or found.get("message") or found.get("detail") or found.get("msg") or json.dumps(found)
        )
    return str(found)


def from_body(status: int, body: str, *, url: str, model: str, kind: str, key: str | None) -> ModelError:
    """The error for an HTTP status, or for an error object inside a stream (then status is its code)."""
    text = scrub(said(body), key)[:300]
    if (status in (400, 413, 422, 500) or status < 400) and (_OVERFLOW.search(text) or _OVERFLOW.search(body[:4000])):
        return overflow(text, body)
    if status == 413:
        return overflow(text, body)
    error = _by_status(status, text, url, model, kind)
    error.status = status
    return error


def overflow(text: str, body: str = "") -> Overflow:
    error = Overflow(f"The prompt is larger than the model's context window ({text}). Shorten it, or raise the window.")
    error.window = _number(_WINDOW, text) or _number(_WINDOW, body)
    error.prompt = _number(_PROMPT, text) or _number(_PROMPT, body)
    return error


def _number(pattern: re.Pattern, text: str) -> int | None:
    found = pattern.search(text)
    return int(next(group for group in found.groups() if group)) if found else None


def _by_status(status: int, text: str, url: str, model: str, kind: str) -> ModelError:
    told = f" ({text})" if text else ""
    if status == 401:
        return Refused(f"{url} wants a key, or another one{told}. Set the API key of this server.")
    if status == 402:
        return Refused(f"{url} wants payment{told}. Add credit there, or choose another model.")
    if status == 403:
        return Refused(f"{url} does not allow this{told}. Check what the key may do and the model's licence.")
    if status in (404, 405):
        mend = f"Run `ollama pull {model}`" if kind == "ollama" else "See `python -m agent models` for what it serves"
        return Refused(f"{url} has no model '{model}' or no chat under this address{told}. {mend}.")
    if status == 429:
        return Busy(f"{url} is over its rate limit{told}. Wait a little, or choose another model.")
    if status == 503 and "load" in text.lower():
        return Busy(f"{url} is still loading its model{told}. Wait until it is ready.")
    if status >= 500 or status == 408:
        return Busy(f"{url} failed with status {status}{told}. Look at the server's log.")
    if 300 <= status < 400:
        return Refused(f"{url} has moved (status {status}). Give the new address.")
    return Refused(f"{url} refused the request with status {status}{told}. Change what it names.")
