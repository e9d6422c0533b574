"""Asks a chosen model a few short questions and says what is wrong with the way to it, and what mends it.

Three calls of a few tokens: does anything come, does thinking swallow stop strings or everything, does switching
thoughts off work, are thoughts and usage reported. What was found is kept as a profile that the client then goes by.
How good the model is is not looked at.
"""

import datetime
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.models import errors
from agent.models.chat import ChatModel, with_profile
from agent.models.discover import RAISE_WINDOW, SMALL_WINDOW, Server, identify
from agent.models.profile import Profile, default_profile, thinking_off
from agent.models.resolve import Choice
from agent.models.stream import Seen
from agent.models.thoughts import strip

QUESTION = [
    {"role": "system", "content": "You answer with one line of Python between <code> and </code> and nothing else."},
    {"role": "user", "content": "Reply exactly: <code>print(1)</code>"},
]
ROOM = 1024
SLOW = 20.0
PARSER = {
    "vllm": "--reasoning-parser qwen3",
    "sglang": "--reasoning-parser qwen3",
    "llamacpp": "--reasoning-format auto",
}


@dataclass(frozen=True)
class Finding:
    """`mend` is the flag or step that mends it; empty when it is right."""

    ok: bool
    what: str
    mend: str = ""


def check(choice: Choice, folder: Path | None = None, cancel: threading.Event | None = None) -> list[Finding]:
    """What was found, in the order it was looked at; with a folder the profile is kept there."""
    model = choice.model
    if not isinstance(model, ChatModel):
        return [Finding(True, f"{choice.label} runs in this process: there is no server to check")]
    server = identify(model.base_url, model.api_key) if model.base_url.endswith("/v1") else None
    found = [_window(model, server)] if server and not server.loading else []
    try:
        first = _ask(model, {}, cancel)
    except errors.ModelError as error:
        what, _, mend = str(error).rpartition(". ")
        return [Finding(False, what or str(error), mend), *found]
    listed = identify(model.base_url, model.api_key) if server else None  # the first call loads a sleeping model
    found = [_window(model, listed)] if listed else found
    off, stops = _try(model, thinking_off(model.kind), cancel), _try(model, {"stop": ["</code>"]}, cancel)
    found = [_reached(model, first), *found, *_judge(model, first, off, stops)]
    profile = _profile(model, listed, first, off, stops)
    if folder:
        profile.save(folder, model.base_url, model.model)
    return found


def use(choice: Choice, profile: Profile) -> Choice:
    """The same choice, going by this profile."""
    model = choice.model
    return replace(choice, make=lambda: with_profile(model, profile)) if isinstance(model, ChatModel) else choice


def _ask(model: ChatModel, extra: dict[str, Any], cancel: threading.Event | None) -> Seen:
    body = {**model.payload(QUESTION, None, ROOM), **extra}
    try:
        return model.observe(body, cancel)
    except errors.Refused as error:
        named = [name for name in ("top_k", "min_p", "stream_options") if name in body and name in str(error)]
        if not named:
            raise
        return model.observe({name: value for name, value in body.items() if name not in named}, cancel)


def _try(model: ChatModel, extra: dict[str, Any], cancel: threading.Event | None) -> Seen | None:
    """A second opinion: None when the server does not take the question."""
    if not extra:
        return None
    try:
        return _ask(model, extra, cancel)
    except errors.Cancelled:
        raise
    except errors.ModelError:
        return None


def _window(model: ChatModel, server: Server | None) -> Finding:
    info = server.model(model.model) if server else None
    window = (info.window if info else None) or model.window
    if window is None:
        return Finding(
            False, "the context window is not told", "set it by hand if answers break off or forget the task"
        )
    if window < SMALL_WINDOW:
        return Finding(
            False, f"the context window is only {window} tokens", RAISE_WINDOW.get(model.kind, "start it larger")
        )
    return Finding(True, f"context window {window} tokens")


def _reached(model: ChatModel, first: Seen) -> Finding:
    time = first.first_token
    if time is not None and time > SLOW:
        return Finding(False, f"the first token took {time:.0f} s", "use a smaller model, or a GPU")
    took = f", first token after {time:.2f} s" if time is not None else ""
    return Finding(True, f"{model.base_url} answers and takes the key{took}")


def _judge(model: ChatModel, first: Seen, off: Seen | None, stops: Seen | None) -> list[Finding]:
    found = []
    if not first.streamed:
        found.append(
            Finding(False, "it does not stream: answers come in one piece", "switch streaming on in the server")
        )
    if _leads(first) or first.tags:
        mend = PARSER.get(model.kind, "start the server with a reasoning parser")
        found.append(Finding(False, "thoughts come inside the content, as <think>", mend))
    if not _answer(first):
        worked = off is not None and bool(_answer(off))
        mend = "thinking is switched off for it" if worked else "give it more tokens, or take another model"
        found.append(Finding(False, "the answer is empty", mend))
    if stops is not None and not _answer(stops) and _answer(first):
        found.append(
            Finding(False, "stop strings match inside thoughts", "none are sent; the end is cut in the client")
        )
    if off is not None and _thought(off):
        found.append(Finding(False, "switching thoughts off has no effect", "switch them off in the server"))
    if first.usage is None:
        found.append(Finding(False, "it reports no usage", "tokens are estimated"))
    return found or [Finding(True, "streams, keeps thoughts apart, reports usage")]


def _profile(model: ChatModel, server: Server | None, first: Seen, off: Seen | None, stops: Seen | None) -> Profile:
    info = server.model(model.model) if server else None
    base = default_profile(model.kind, model.model, (info.window if info else None) or model.window)
    silent = not _answer(first) and off is not None and bool(_answer(off))
    return replace(
        base,
        thinking=False if silent or (base.thinking is False) else None,
        extra={**base.extra, **(thinking_off(model.kind) if silent else {})},
        send_stops=bool(stops is not None and _answer(stops) and not _thought(first) and not _thought(stops)),
        leads=_leads(first),
        usage=first.usage is not None,
        streams=first.streamed,
        reasoning_field=first.field_name,
        first_token=first.first_token,
        version=server.version if server else None,
        checked=datetime.date.today().isoformat(),
    )


def _answer(seen: Seen) -> str:
    return strip(seen.text)[0].strip()


def _thought(seen: Seen) -> bool:
    return bool(seen.reasoning.strip()) or _leads(seen)


def _leads(seen: Seen) -> bool:
    return bool(strip(seen.text)[1])
