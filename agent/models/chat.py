"""Our client for OpenAI-compatible chat servers: streams inside `generate`, can be cancelled in every waiting state.

Promise: a Reply holds a complete answer; anything else is one of agent.models.errors, whose texts never hold the key.
Busy and silent servers are asked again, briefly and boundedly, but only while nothing was shown yet: what to do about
an answer that broke in the middle is the caller's decision. No stop strings are sent unless the profile says they are
safe.
"""

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from agent.models import errors
from agent.models.base import OnDelta, Reply, StopAt, Strings, Usage, flat, ignore_delta, ignore_notice, tokens
from agent.models.blocks import Watch
from agent.models.profile import PLAIN, ROOM, ROOM_UNKNOWN, SAMPLING_FIELDS, THINKING, Profile, default_profile
from agent.models.stream import Exchange, Peer, Seen, Timeouts
from agent.models.thoughts import strip
from agent.models.wire import Wire, client_for

OPTIONAL = (
    "stream_options",
    "reasoning_effort",
    "chat_template_kwargs",
    "top_k",
    "min_p",
    "top_p",
    "temperature",
    "stop",
)
LEAST_ROOM = 256


@dataclass(frozen=True)
class Retry:
    """At most `times` more tries; `first` seconds of pause, doubling; a wait the server asks for counts up to `cap`."""

    times: int = 3
    first: float = 0.5
    cap: float = 30
    loading: float = 120


@dataclass
class ChatModel:
    """`find_window` is asked once after the first answer, for servers that know their window only when loaded."""

    base_url: str
    model: str
    kind: str = "openai"
    api_key: str | None = field(default=None, repr=False)
    window: int | None = None
    profile: Profile | None = None
    retry: Retry = field(default_factory=Retry)
    timeouts: Timeouts = field(default_factory=Timeouts)
    notice: Callable[[str], None] = ignore_notice
    find_window: Callable[[], int | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        self.profile = self.profile or default_profile(self.kind, self.model, self.window)
        self.window = self.window or self.profile.window
        self._leads = self.profile.leads
        self._refused: set[str] = set()  # optional fields this server does not take
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def generate(
        self,
        messages: list[dict],
        *,
        on_delta: OnDelta = ignore_delta,
        cancel: threading.Event | None = None,
        stop_at: StopAt = "block",
    ) -> Reply:
        cancel, begin = cancel or threading.Event(), time.monotonic()
        messages = flat(messages)
        prompt = tokens(json.dumps(messages, ensure_ascii=False))
        self._check_silent_cut(prompt)
        room, tries = self._room(prompt), 0
        while True:
            request = self.payload(messages, stop_at, room)
            exchange = self._exchange(request, on_delta, cancel, stop_at)
            try:
                return self._judge(exchange.run(), prompt, begin)
            except errors.ModelError as error:
                error.reply = error.reply or self._reply(exchange.seen, exchange.seen.text, prompt, begin)
                if exchange.seen.first_token is not None or isinstance(error, errors.Cancelled):
                    raise
                smaller = self._smaller_room(error, room)
                if smaller:
                    room = smaller
                elif not self._drop_field(error, request):
                    tries = self._wait(error, tries, begin, cancel)

    def payload(self, messages: list[dict], stop_at: StopAt = "block", room: int = ROOM_UNKNOWN) -> dict[str, Any]:
        """The request body. Server-wide settings of the profile win over the defaults here."""
        profile = self._profile
        sampling = PLAIN if profile.thinking is False else THINKING
        beyond = SAMPLING_FIELDS.get(self.kind, ())
        options: dict[str, Any] = {"include_usage": True}
        if self.kind == "vllm":
            options["continuous_usage_stats"] = True  # so that an answer we stop reading is counted too
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": options,
            "max_tokens": room,
            "temperature": sampling["temperature"],
            "top_p": sampling["top_p"],
            **{name: sampling[name] for name in beyond},
            **profile.extra,
        }
        if profile.send_stops and stop_at:
            body["stop"] = ["</code>"] if stop_at == "block" else list(stop_at)
        return {name: value for name, value in body.items() if name not in self._refused}

    def observe(self, body: dict[str, Any], cancel: threading.Event | None = None) -> Seen:
        """One request as it is, with no retry and no judgement: what the probe looks at."""
        return self._exchange(body, ignore_delta, cancel or threading.Event(), None).run()

    @property
    def _profile(self) -> Profile:
        assert self.profile is not None
        return self.profile

    @property
    def peer(self) -> Peer:
        return Peer(self.base_url, self.model, self.kind, self.api_key)

    def _exchange(self, body: dict[str, Any], on_delta: OnDelta, cancel: threading.Event, stop_at: StopAt) -> Exchange:
        if cancel.is_set():
            raise errors.Cancelled("The call to the model was cancelled.")
        headers = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        content = json.dumps(body, ensure_ascii=False).encode(errors="replace")
        wire = Wire(self._http(), f"{self.base_url}/chat/completions", headers, content)
        watch = Watch() if stop_at == "block" else Strings(stop_at) if stop_at else None
        sure = stop_at != "block" or self._leads is not None
        return Exchange(
            wire,
            self.peer,
            on_delta=on_delta,
            cancel=cancel,
            watch=watch,
            timeouts=self.timeouts,
            inside=self._leads is True,
            sure=sure,
        )

    def _http(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = client_for(self.base_url, self.timeouts.connect)
            return self._client

    def _judge(self, seen: Seen, prompt: int, begin: float) -> Reply:
        """A complete answer as a Reply, or the error that says what it is instead."""
        text = self._answer(seen)
        reply = self._reply(seen, text, prompt, begin)
        error = self._fault(seen, text)
        if error:
            error.reply = reply
            raise error
        self._learn_window(prompt)
        return reply

    def _answer(self, seen: Seen) -> str:
        """The text without thoughts. Learns here whether this server's answers begin inside a thought."""
        text = seen.text
        if self._leads is True and not text.strip() and seen.finish == "stop" and not seen.field_name:
            return seen.reasoning  # it did not think this time
        if self._leads is None and not seen.cut:
            late = "".join(seen.late)
            answer, thoughts = strip(text + late)
            if thoughts:
                self._leads = True
                seen.thoughts.append(thoughts)
                seen.late.clear()
                return answer
            if seen.finish and text.strip() and (seen.finish != "length" or "bservation:" in late):
                self._leads = False
        if not text.strip() and seen.tool_calls:
            calls = ({"name": name, "arguments": arguments} for name, arguments in seen.tool_calls.values())
            return "\n".join(f"<tool_call>{json.dumps(call)}</tool_call>" for call in calls)
        return text

    def _fault(self, seen: Seen, text: str) -> errors.ModelError | None:
        url = self.base_url
        unsure = self._leads is None and seen.finish in (None, "length")  # the block may be a draft in a long thought
        complete = seen.cut or (bool(seen.late) and not unsure)
        if not complete and not seen.finish and not seen.done:
            told = seen.broke or "the stream just ended"
            if seen.first_token is None:
                return errors.Unreachable(f"{url} closed without an answer: {told}. Look at the server's log.")
            return errors.CutStream(f"{url} broke off in the middle of an answer: {told}. Ask again.")
        if not complete and seen.finish == "length":
            return errors.Truncated(
                "The answer reached the token limit and is incomplete. Ask for a smaller step, or raise max_tokens."
            )
        if not text.strip():
            only = "only thoughts and no answer" if seen.reasoning.strip() else "nothing"
            return errors.EmptyAnswer(f"{self.model} answered {only}. Ask again, or switch its thinking off.")
        return None

    def _reply(self, seen: Seen, text: str, prompt: int, begin: float) -> Reply:
        said = seen.usage or {}
        counted = isinstance(said.get("prompt_tokens"), int) and isinstance(said.get("completion_tokens"), int)
        usage = (
            Usage(said["prompt_tokens"], said["completion_tokens"], False)
            if counted
            else Usage(prompt, tokens(text) + tokens(seen.reasoning), True)
        )
        finish = "cut" if seen.cut or seen.late else seen.finish or ("stop" if seen.done else "lost")
        return Reply(text, seen.reasoning, usage, finish, time.monotonic() - begin, seen.first_token)

    def _check_silent_cut(self, prompt: int) -> None:
        """Ollama drops the beginning of a prompt that is too long and says nothing."""
        if self.kind == "ollama" and self.window and prompt > self.window:
            raise self._silent_overflow(prompt)

    def _learn_window(self, prompt: int) -> None:
        if self.window is None and self.find_window:
            self.window = self.find_window()
            self._check_silent_cut(prompt)

    def _silent_overflow(self, prompt: int) -> errors.Overflow:
        error = errors.Overflow(
            f"Ollama would silently cut this prompt of about {prompt} tokens to its window of {self.window}. "
            "Restart it with OLLAMA_CONTEXT_LENGTH=64000."
        )
        error.window, error.prompt = self.window, prompt
        return error

    def _room(self, prompt: int) -> int:
        wanted = self._profile.max_tokens or (ROOM if self.window else ROOM_UNKNOWN)
        return max(LEAST_ROOM, min(wanted, self.window - prompt * 9 // 8 - 64)) if self.window else wanted

    def _smaller_room(self, error: errors.ModelError, room: int) -> int | None:
        """Less room for the answer, when that alone made the request too large."""
        if not isinstance(error, errors.Overflow) or not error.window:
            return None
        self.window = min(self.window or error.window, error.window)
        left = error.window - (error.prompt or error.window) - 64
        return left if LEAST_ROOM <= left < room else None

    def _drop_field(self, error: errors.ModelError, request: dict) -> bool:
        """Some servers refuse fields that others need: leave out the one they name."""
        if not isinstance(error, errors.Refused) or error.status not in (400, 422):
            return False
        named = next((name for name in OPTIONAL if name in request and name in str(error)), None)
        if named:
            self._refused.add(named)
        return named is not None

    def _wait(self, error: errors.ModelError, tries: int, begin: float, cancel: threading.Event) -> int:
        """Pauses before the next try and returns its number, or raises the error when there is no more to try."""
        loading = isinstance(error, errors.Busy) and "loading" in str(error)
        most = 1 if "no answer in" in str(error) else self.retry.times
        if isinstance(error, errors.EmptyAnswer) or not error.retryable:
            raise error
        if loading and time.monotonic() - begin < self.retry.loading:
            pause = 1.0
        elif tries >= most or (error.retry_after or 0) > self.retry.cap:
            raise error
        else:
            pause = error.retry_after or self.retry.first * 2**tries * random.uniform(0.5, 1.5)
            tries += 1
        self.notice(f"{error} Asking again in {pause:.1f} s.")
        if cancel.wait(pause):
            raise errors.Cancelled("The call to the model was cancelled.") from None
        return tries


def with_profile(model: ChatModel, profile: Profile) -> ChatModel:
    """The same model, spoken to as this profile says."""
    return replace(model, profile=profile, window=profile.window or model.window, kind=profile.kind)
