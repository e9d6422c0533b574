"""One exchange with a chat server: from the bytes of its answer to what was seen in them.

Reads server-sent events and plain JSON answers, both spellings of the reasoning field, thinking tags inside the
content, and error objects inside a stream. Judges nothing: an empty, truncated or dropped answer comes back as it is,
in `Seen`.
"""

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.models.base import OnDelta, content_text
from agent.models.errors import Cancelled, Garbage, ModelError, Unreachable, from_body, scrub
from agent.models.thoughts import Splitter
from agent.models.wire import Failed, Head, Wire

LARGEST = 64 * 2**20  # of an answer that is no stream
LARGEST_ERROR = 64 * 2**10
PACE = 0.02  # seconds between two looks at a running stream: waking for every token costs more than reading it


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `first` is long because a laptop may read a prompt for minutes; every wait can be cancelled."""

    connect: float = 10
    first: float = 600
    stall: float = 120
    after_finish: float = 2


@dataclass(frozen=True)
class Peer:
    """Whom we talk to, for error messages; the key is only here to be taken out of texts."""

    url: str
    model: str
    kind: str
    key: str | None = field(default=None, repr=False)

    def error(self, status: int, body: str) -> ModelError:
        return from_body(status, body, url=self.url, model=self.model, kind=self.kind, key=self.key)


class Watcher(Protocol):
    def feed(self, piece: str) -> int | None: ...


@dataclass
class Seen:
    """What one exchange showed."""

    parts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # what came after the watcher said stop
    usage: dict | None = None
    finish: str | None = None
    done: bool = False
    cut: bool = False
    streamed: bool = True
    deltas: int = 0
    field_name: str | None = None
    tags: bool = False
    tool_calls: dict[int, list[str]] = field(default_factory=dict)
    first_token: float | None = None
    broke: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def reasoning(self) -> str:
        return "".join(self.thoughts)


class Exchange:
    """Drives one Wire to its end, or to the watcher's. `sure` says that a closed block may end the reading at once."""

    def __init__(
        self,
        wire: Wire,
        peer: Peer,
        *,
        on_delta: OnDelta,
        cancel: threading.Event,
        watch: Watcher | None,
        timeouts: Timeouts,
        inside: bool = False,
        sure: bool = True,
    ) -> None:
        self.wire, self.peer, self.on_delta, self.cancel = wire, peer, on_delta, cancel
        self.watch, self.timeouts, self.sure = watch, timeouts, sure
        self.splitter, self.inside = Splitter(inside), inside
        self.seen, self.begin = Seen(), time.monotonic()
        self._items: deque[Any] = deque()
        self.begun = False
        self._buffer: list[bytes] = []
        self._closed = False

    def run(self) -> Seen:
        try:
            head = self._next(self.timeouts.first)
            if isinstance(head, Failed):
                raise self._unreachable(head)
            assert isinstance(head, Head)
            if head.status != 200:
                raise self._status(head)
            self._body("event-stream" in head.headers.get("content-type", ""))
        finally:
            self.wire.close()
        return self.seen

    def _next(self, timeout: float) -> Any:
        """The next item of the wire. Cancelling is seen within a tenth of a second, whatever is waited for."""
        end = time.monotonic() + timeout
        if not self._items and self.begun:
            self.cancel.wait(PACE)
        while not self._items:
            if self.cancel.is_set():
                break
            self._items.extend(self.wire.take(min(0.1, max(0.001, end - time.monotonic()))))
            if not self._items and time.monotonic() >= end:
                return Failed(False, f"no answer in {timeout:g} s")
        if self.cancel.is_set():
            raise Cancelled("The call to the model was cancelled.")
        item = self._items.popleft()
        self.begun = isinstance(item, bytes)
        return item

    def _unreachable(self, failed: Failed) -> Unreachable:
        mend = "Start the server, or check the address" if failed.connecting else "Look at the server's log"
        return Unreachable(f"{self.peer.url} does not answer: {failed.text}. {mend}.")

    def _status(self, head: Head) -> ModelError:
        body, size = [], 0
        while isinstance(piece := self._next(10), bytes) and size < LARGEST_ERROR:
            body.append(piece)
            size += len(piece)
        error = self.peer.error(head.status, b"".join(body).decode(errors="replace"))
        after = head.headers.get("retry-after", "")
        error.retry_after = float(after) if after.replace(".", "", 1).isdigit() else None
        return error

    def _body(self, events: bool) -> None:
        started, size = events, 0
        while True:
            item = self._next(self.timeouts.after_finish if self.seen.finish else self.timeouts.stall)
            if isinstance(item, Failed):
                self.seen.broke = item.text
            if not isinstance(item, bytes):
                break
            size += len(item)
            if not started:
                first = (b"".join(self._buffer) + item).lstrip()[:1]
                events, started = first not in (b"{", b"[", b"<"), bool(first)
            if not (started and events):
                self._buffer.append(item)
                if size > LARGEST:
                    raise Garbage(f"{self.peer.url} sends more than an answer can hold. Check the address.")
                continue
            if self._events(item):
                return
        if not started or not events:
            self._document(b"".join(self._buffer))
        elif self._buffer:
            self._events(b"\n")  # a last line without its end
        self._flush()

    def _events(self, chunk: bytes) -> bool:
        """Takes bytes of a stream; True when the reading is over."""
        if b"\n" not in chunk:
            self._buffer.append(chunk)
            return False
        lines = chunk.split(b"\n")
        lines[0] = b"".join([*self._buffer, lines[0]])
        rest = lines.pop()
        self._buffer = [rest] if rest else []
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    self.seen.done = True
                    self._flush()
                    return True
                if data and self._payload(self._json(data)):
                    return True
            elif line.startswith(b"error:"):
                raise self._told(self._json(line[6:].strip()))
            elif line.strip() and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise self._garbage(line)
        return False

    def _json(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            raise self._garbage(data) from None

    def _garbage(self, data: bytes) -> Garbage:
        piece = scrub(data[:120].decode(errors="replace"), self.peer.key)[:60]
        return Garbage(
            f"{self.peer.url} does not speak the OpenAI protocol (it sent: {piece}). Check the address: /v1?"
        )

    def _told(self, payload: Any) -> ModelError:
        inner = payload.get("error") if isinstance(payload, dict) else payload
        code = next((x for x in (inner, payload) if isinstance(x, dict) and isinstance(x.get("code"), int)), {}).get(
            "code"
        )
        return self.peer.error(code if code and code >= 400 else 500, json.dumps(payload))

    def _document(self, data: bytes) -> None:
        if not data.strip():
            return
        payload = self._json(data)
        self.seen.streamed = False
        if not isinstance(payload, dict) or not (payload.get("choices") or payload.get("error")):
            raise self._garbage(data)
        self._payload(payload)
        self.seen.done = True

    def _payload(self, payload: Any) -> bool:
        if not isinstance(payload, dict):
            raise self._garbage(json.dumps(payload).encode())
        if payload.get("error"):
            raise self._told(payload)
        if isinstance(payload.get("usage"), dict):
            self.seen.usage = payload["usage"]
        choices = payload.get("choices")
        if not choices:
            return False
        choice = choices[0] if isinstance(choices, list) else None
        delta = (choice.get("delta") or choice.get("message") or {}) if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(delta, dict):
            raise self._garbage(json.dumps(payload).encode())
        thought = delta.get("reasoning") or delta.get("reasoning_content")
        content = delta.get("content")
        over = False
        if thought:
            self.seen.field_name = "reasoning" if delta.get("reasoning") else "reasoning_content"
            self._put("think", content_text(thought))
        if content:
            over = self._content(content if isinstance(content, str) else content_text(content))
        for call in delta.get("tool_calls") or []:
            if isinstance(call, dict):
                self._tool_call(call)
        self.seen.finish = choice.get("finish_reason") or self.seen.finish
        return over

    def _content(self, content: str) -> bool:
        self.seen.deltas += 1
        over = False
        for kind, piece in self.splitter.feed(content):
            self.seen.tags = self.seen.tags or kind == "think"
            over = self._put(kind, piece) or over
        return over

    def _put(self, kind: str, piece: str) -> bool:
        """Hands a piece on; True when it closed the block and the rest is not wanted."""
        if self.seen.first_token is None:
            self.seen.first_token = time.monotonic() - self.begin
        if kind == "think":
            self.seen.thoughts.append(piece)
            self.on_delta("think", piece)
            return False
        if self._closed:
            self.seen.late.append(piece)
            return False
        keep = self.watch.feed(piece) if self.watch else None
        if keep is not None:
            self._closed = True
            if keep < 0:
                self.seen.parts, keep = [self.seen.text[:keep]], 0
            self.seen.late.append(piece[keep:])
            piece = piece[:keep]
        if piece:
            self.seen.parts.append(piece)
            self.on_delta("text", piece)
        if self._closed and (self.sure or bool(self.seen.thoughts)):
            self.seen.cut = True
            return True
        return False

    def _tool_call(self, call: dict) -> None:
        function = call.get("function") or {}
        known = self.seen.tool_calls.setdefault(call.get("index") or 0, ["", ""])
        known[0] += function.get("name") or ""
        arguments = function.get("arguments") or ""
        known[1] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _flush(self) -> None:
        for kind, piece in self.splitter.end():
            self._put(kind, piece)
