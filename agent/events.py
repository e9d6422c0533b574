"""What happens in a session: the one event shape every front end reads, and the merging of streamed pieces.

`FIELDS` is the contract: the types and what their data holds. Text of a streamed type (`STREAMED`) is always a piece:
joining the `text` of one session's events of equal type, `step` and `stream`, in the order of `seq`, gives the whole.
Events are what the store gives back after writing; nothing here reads or writes a disk.
"""

import json
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
    "tool_result": {"id": str, "tool": str, "ok": bool, "seconds": NUMBER, "result?": JSON, "error?": str, "step?": int},
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
        "origin?": str,
        "fingerprint?": str,
        "held?": NULLABLE,
        "spent?": NULLABLE,
        "needs_approval?": bool,
        "limit?": bool,
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
STATES = ("idle", "running", "waiting", "succeeded", "failed", "cancelled", "limit", "lost")


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
