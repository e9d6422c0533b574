"""What happens in a session: the one event shape every front end reads, and the merging of streamed pieces.

`FIELDS` is the contract: the types and what their data holds. Text of a streamed type (`STREAMED`) is always a piece:
joining the `text` of one session's events of equal type, `step` and `stream`, in the order of `seq`, gives the whole.
Events are what the store gives back after writing; nothing here reads or writes a disk.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.redact import Redactor, StreamRedactor

NUMBER = (int, float)
JSON = (dict, list, str, int, float, bool, type(None))
NULLABLE = (int, float, type(None))

# type -> field -> what it may be; a field whose name ends in "?" may be missing.
FIELDS: dict[str, dict[str, Any]] = {
    # what a person asked; files are paths in the sandbox
    "task": {"text": str, "files?": list, "turn?": int, "origin?": str},
    # the model's reasoning and the prose around its code
    "thought": {"text": str, "step?": int},
    # the one code block of a step, as it is written
    "code": {"text": str, "step?": int, "language?": str},
    # what running code printed; stream is "stdout" or "stderr"
    "output": {"text": str, "step?": int, "stream?": str},
    # a host tool was called, from code (step) or by a person; id joins it to its result and its approvals
    "tool_call": {"id": str, "tool": str, "arguments": dict, "step?": int, "origin?": str},
    # result is an envelope when ok, error one line when not
    "tool_result": {
        "id": str,
        "tool": str,
        "ok": bool,
        "seconds": NUMBER,
        "result?": JSON,
        "error?": str,
        "step?": int,
    },
    # a record of the gate, as agent/policy.py describes it; card is what a person is asked
    "approval": {
        "id": str,
        "decision": str,
        "tool": str,
        "risk": str,
        "what": str,
        "where": str,
        "reason": str,
        "by": str,
        "usd?": NULLABLE,
        "usd_max?": NULLABLE,
        "minutes?": NULLABLE,
        "priced?": bool,
        "origin?": str,
        "fingerprint?": str,
        "held?": NULLABLE,
        "spent?": NULLABLE,
        "needs_approval?": bool,
        "limit?": bool,
        "doubt?": bool,
        "grant?": (dict, type(None)),
        "card?": dict,
        "result?": JSON,
    },
    # something worth keeping; path lies under the home folder, kind says how to show it
    "artifact": {"path": str, "kind": str, "title?": str, "size?": int, "step?": int, "run?": str},
    # a job as its runner reports it; ref re-attaches it after a restart
    "job": {"id": str, "state": str, "ref?": dict, "runner?": str, "run?": str, "url?": str, "detail?": str}
    | {"usd?": NULLABLE, "progress?": NULLABLE, "eta_seconds?": NULLABLE},
    # one row of numbers of a run
    "metric": {"run": str, "values": dict, "at_step?": NULLABLE},
    # what one model call took; usd is None when nobody knows
    "usage": {"input_tokens": int, "output_tokens": int, "usd?": NULLABLE, "seconds?": NUMBER, "model?": str}
    | {"step?": int, "context?": int, "estimated?": bool},
    # one line somebody can act on; kind is a short word ("model", "sandbox", "tool", "store", "parse", ...)
    "error": {"text": str, "kind": str, "fatal?": bool, "hint?": str, "detail?": str, "step?": int},
    # the answer to the task: text in pieces, or an envelope shown as it is
    "answer": {"text?": str, "envelope?": dict, "step?": int},
    # where the session stands
    "state": {"state": str, "reason?": str, "exit_code?": int, "turn?": int, "detail?": dict},
}
TYPES = frozenset(FIELDS)
STREAMED = frozenset({"thought", "code", "output", "answer"})
# "waiting" is for a person's approval, "idle" between two turns; the last five are ends.
ENDS = ("succeeded", "failed", "cancelled", "limit", "lost")
STATES = ("idle", "running", "waiting", *ENDS)

INTERVAL = 0.1
LARGEST_PIECE = 65_536
# These happen while code prints: they don't end its output.
_WITHIN_A_STREAM = frozenset({"tool_call", "tool_result", "approval", "artifact", "job", "metric"})
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    session: str
    seq: int
    at: float
    type: str
    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"session": self.session, "seq": self.seq, "at": self.at, "type": self.type, "data": self.data}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))


def problems(type: str, data: dict[str, Any]) -> list[str]:
    """What an event's data has that the table does not allow; empty when it is as documented."""
    if type not in FIELDS:
        return [f"unknown event type {type!r}"]
    found = []
    fields = {name.rstrip("?"): (kinds, name.endswith("?")) for name, kinds in FIELDS[type].items()}
    for name, (kinds, optional) in fields.items():
        if name not in data:
            found += [] if optional else [f"{type}: {name} is missing"]
        elif not isinstance(data[name], kinds) or (isinstance(data[name], bool) and kinds in (int, NUMBER, NULLABLE)):
            found.append(f"{type}: {name} is {data[name].__class__.__name__}")
    found += [f"{type}: {name} is not documented" for name in data if name not in fields]
    if type == "state" and data.get("state") not in STATES:
        found.append(f"state: {data.get('state')!r} is none of {', '.join(STATES)}")
    return found


class Coalescer:
    """Turns streamed pieces into about ten events a second; everything else passes at once, in order.

    `sink` gets batches of (type, data), normally `partial(store.append_many, session)`. The first piece after a pause
    goes out at once. A batch the sink refused is kept and goes out first next time, so the caller may try again. With
    a redactor, a secret cut in two by streaming is still seen: the end of a text that may be half a secret waits for
    the rest, until the stream ends: `flush()`, text of another type or step, a task, an error, a state.
    """

    def __init__(self, sink: Callable[[list[tuple[str, dict]]], Any], redactor: Redactor | None = None):
        self._sink = sink
        self._redactor = redactor
        self._lock = threading.RLock()
        self._segments: list[tuple[tuple, dict, list[str]]] = []
        self._waiting = 0
        self._tails: dict[tuple, tuple[dict, StreamRedactor]] = {}
        self._open: tuple | None = None  # type and step of the running text
        self._ready: list[tuple[str, dict]] = []
        self._sent_at = 0.0

    def append(self, type: str, data: dict[str, Any]) -> None:
        text = data.get("text")
        with self._lock:
            if type not in STREAMED or not isinstance(text, str) or "envelope" in data:
                self._move()
                if type not in _WITHIN_A_STREAM:
                    self._end()
                self._ready.append((type, data))
                self._send()
                return
            if self._open != (type, data.get("step")):
                self._move()
                self._end()
                self._open = (type, data.get("step"))
            key = (type, data.get("step"), data.get("stream"))
            if self._segments and self._segments[-1][0] == key:
                self._segments[-1][2].append(text)
            else:
                self._segments.append((key, {k: v for k, v in data.items() if k != "text"}, [text]))
            self._waiting += len(text)
            since = time.monotonic() - self._sent_at
            if since >= INTERVAL or self._waiting >= LARGEST_PIECE:
                self._move()
                self._send()
            elif self._waiting == len(text):
                _ticker.call(self, INTERVAL - since)

    def flush(self) -> None:
        """The end of the running text: everything goes out now."""
        with self._lock:
            self._move()
            self._end()
            self._send()

    def tick(self) -> None:
        """Sends what waits. For the shared ticker; an error is left to the next append or flush, which repeats it."""
        with self._lock:
            self._move()
            try:
                self._send()
            except Exception:
                log.warning("streamed events could not be stored yet", exc_info=True)

    def _move(self) -> None:
        """From waiting to ready, except the ends that may be half a secret."""
        for key, rest, chunks in self._segments:
            text = "".join(chunks)
            if self._redactor is not None:
                if key not in self._tails:
                    self._tails[key] = rest, self._redactor.stream()
                text = self._tails[key][1].feed(text)
            self._prepare(key[0], rest, text)
        self._segments.clear()
        self._waiting = 0

    def _end(self) -> None:
        for key, (rest, tail) in self._tails.items():
            self._prepare(key[0], rest, tail.close())
        self._tails.clear()
        self._open = None

    def _prepare(self, type: str, rest: dict, text: str) -> None:
        for at in range(0, len(text), LARGEST_PIECE):
            self._ready.append((type, {**rest, "text": text[at : at + LARGEST_PIECE]}))

    def _send(self) -> None:
        if self._ready:
            self._sink(list(self._ready))
            self._ready.clear()
            self._sent_at = time.monotonic()


class _Ticker:
    """One thread for all coalescers: wakes only while some text waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Coalescer, float] = {}
        self._thread: threading.Thread | None = None

    def call(self, coalescer: Coalescer, delay: float) -> None:
        with self._changed:
            self._due.setdefault(coalescer, time.monotonic() + delay)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="event-ticker", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due:
                    self._changed.wait()
                first = min(self._due.values()) - time.monotonic()
                if first > 0:
                    self._changed.wait(first)
                now = time.monotonic()
                ready = [coalescer for coalescer, due in self._due.items() if due <= now]
                for coalescer in ready:
                    del self._due[coalescer]
            for coalescer in ready:
                coalescer.tick()


_ticker = _Ticker()
