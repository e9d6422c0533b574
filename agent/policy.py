"""One gate for everything that spends, publishes, deletes or leaves the machine, whoever asks.

Pure: no clock, no disk, no person. Money is reserved when an act is allowed and settled when its cost is known; what
was reserved and never settled keeps counting, also after a resume. Money is counted over the whole session, steps and
minutes over a turn. A request id is decided once: the same id again gets the same decision and the result of the first,
never a second execution. One process runs a session (the store's claim), so one lock is enough. Not here: asking the
person, storing the records, stopping what already runs.
"""

import hashlib
import json
import math
import threading
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

ASKED = ("id", "tool", "risk", "what", "where", "usd", "usd_max", "minutes", "origin")
IN_DOUBT = "the same call was begun before and nobody knows whether it was done; it may be done twice"


class Risk(StrEnum):
    FREE = "free"
    NETWORK = "network"
    PAID = "paid"
    PUBLISH = "publish"
    DESTRUCTIVE = "destructive"


class Mode(StrEnum):
    ASK = "ask"
    YES = "yes"
    DENY = "deny"


@dataclass(frozen=True)
class Budget:
    """None is no limit. `max_usd` is for the session, the others are for each turn. Minutes are wall clock: a request's
    minutes are compared with what is left, never summed."""

    max_usd: float | None = None
    max_minutes: float | None = None
    max_steps: int | None = None


@dataclass(frozen=True)
class Request:
    """`usd` is the expected price and `usd_max` the worst case; None means nobody knows, which is not 0."""

    id: str
    tool: str
    arguments: dict[str, Any]
    risk: Risk
    what: str
    where: str = ""
    usd: float | None = None
    usd_max: float | None = None
    minutes: float | None = None
    origin: str = "model"

    def __post_init__(self) -> None:
        for number in (self.usd, self.usd_max, self.minutes):
            _sensible(number)
        object.__setattr__(self, "risk", Risk(self.risk))

    @property
    def priced(self) -> bool:
        return self.risk is Risk.PAID or bool(self.usd) or bool(self.usd_max)

    @property
    def gated(self) -> bool:
        return self.priced or self.risk in (Risk.PUBLISH, Risk.DESTRUCTIVE)

    def fingerprint(self) -> str:
        parts = [self.tool, self.arguments, self.risk, self.where, self.usd, self.usd_max, self.minutes]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Allow:
    """`execute` is True exactly once per request id; later ones get `result` if `finished`, else nobody knows yet."""

    record: dict[str, Any]
    execute: bool = True
    finished: bool = False
    result: Any = None


@dataclass(frozen=True)
class Deny:
    """`needs_approval`: a person would have been asked (exit code 4). `limit`: a budget is used up (exit code 3)."""

    record: dict[str, Any]
    reason: str
    needs_approval: bool = False
    limit: bool = False


@dataclass(frozen=True)
class Ask:
    record: dict[str, Any]
    card: dict[str, Any]


Decision = Allow | Deny | Ask


class Gate:
    """Decides requests. Every decision carries its `record`, a plain dict for an `approval` event; those records, in
    order, are also the state: `from_state({"records": [...]})` rebuilds the gate after a crash."""

    def __init__(self, mode: Mode, budget: Budget | None = None, offline: bool = False, attended: bool = True):
        self.mode, self.budget, self.offline, self.attended = Mode(mode), budget or Budget(), offline, attended
        self._lock = threading.Lock()
        self._steps, self._minutes, self._before = 0, 0.0, ""
        self._entries: dict[str, dict[str, Any]] = {}  # request id -> its latest record
        self._spent = self._held = 0  # millionths of a dollar, over all entries
        self._grants: dict[str, int] = {}  # kind of call -> what a person allowed for this session

    def decide(self, request: Request) -> Decision:
        with self._lock:
            entry = self._entries.get(request.id)
            if entry is None:
                return self._keep(self._judge(request))
            if entry["fingerprint"] != request.fingerprint():
                reason = "this request id was used for a different call"
                return _seen(_record(request) | {"decision": "deny", "reason": reason})
            return _seen(entry)

    def approve(self, id: str, session_usd: float | None = None, by: str = "person") -> Decision:
        """Yes, once; with `session_usd` also to later calls of this kind, until all of them add up to that.

        The first answer stands; the budget is looked at again, for others may have spent in between."""
        with self._lock:
            entry = self._entry(id)
            if entry["decision"] != "ask":
                return _seen(entry)
            refusal = self._over(entry)
            if refusal:
                return self._keep(entry | {"decision": "deny", "reason": refusal, "limit": True})
            _sensible(session_usd)
            grant = None
            if session_usd is not None:
                grant = {"kind": _kind(entry), "usd": session_usd}
                self._grants[_kind(entry)] = _micro(session_usd)
            changes = {"decision": "allow", "reason": "approved", "by": by, "grant": grant, "held": self._worst(entry)}
            return self._keep(entry | changes)

    def refuse(self, id: str, reason: str = "", by: str = "person") -> Decision:
        with self._lock:
            entry = self._entry(id)
            if entry["decision"] != "ask":
                return _seen(entry)
            return self._keep(entry | {"decision": "deny", "reason": reason or "refused by the person", "by": by})

    def settle(self, id: str, usd: float | None = None, result: Any = None) -> dict[str, Any]:
        """The act ended: what it cost and what a replay shall get.

        0 if it did not happen; None if nobody knows the cost: then the reservation keeps counting. The first settlement
        stands, except that a missing cost may be told later."""
        _sensible(usd)
        with self._lock:
            entry = self._entry(id)
            if entry["decision"] not in ("allow", "settled"):
                raise ValueError(f"request {id} was not allowed: there is nothing to settle")
            changes: dict[str, Any] = {}
            if entry["decision"] == "allow":
                changes = {"decision": "settled", "result": result}
            if usd is not None and entry["spent"] is None:
                changes |= {"held": None, "spent": _micro(usd) / 1e6}
            self._keep(entry | changes)
            return dict(self._entries[id])

    def doubt(self, id: str, told: str) -> dict[str, Any]:
        """The act was begun by an earlier request and nobody knows its end: this one did nothing. From now on only a
        person lets the same call pass, until it was done."""
        with self._lock:
            entry = self._entry(id)
            self._keep(entry | {"decision": "settled", "held": None, "spent": 0.0, "result": told, "doubt": True})
            return dict(self._entries[id])

    def new_turn(self, steps: int = 0, minutes: float = 0.0) -> None:
        """A person's task begins a fresh count; going on with an interrupted one begins with what that had used."""
        with self._lock:
            self._steps, self._minutes = steps, minutes
            self._before = ", counting what was done before the interruption" if steps or minutes else ""

    def used(self) -> dict[str, Any]:
        """By this turn so far."""
        with self._lock:
            return {"steps": self._steps, "minutes": self._minutes}

    def progress(self, steps: int = 0, minutes: float = 0.0) -> str | None:
        """Counts steps and wall clock; says which limit is reached, if one is."""
        with self._lock:
            self._steps += steps
            self._minutes += minutes
            if self.budget.max_steps is not None and self._steps >= self.budget.max_steps:
                return f"the limit of {self.budget.max_steps} steps is reached (--max-steps){self._before}"
            if self.budget.max_minutes is not None and self._minutes >= self.budget.max_minutes:
                return f"the limit of {self.budget.max_minutes:g} minutes is reached (--max-minutes){self._before}"
            return None

    def money(self) -> dict[str, float | None]:
        """Dollars spent, reserved (also by what never reported back) and left; left is None without a budget."""
        with self._lock:
            left = self._left()
            return {"spent": self._spent / 1e6, "held": self._held / 1e6, "left": None if left is None else left / 1e6}

    def unsettled(self) -> list[dict[str, Any]]:
        """Gated acts that were allowed and whose end or cost nobody reported: look at these after a crash."""
        with self._lock:
            gated = [e for e in self._entries.values() if e["priced"] or e["risk"] in (Risk.PUBLISH, Risk.DESTRUCTIVE)]
            ended = [e for e in gated if e["decision"] == "settled" and e["priced"] and e["spent"] is None]
            return [dict(e) for e in gated if e["decision"] == "allow"] + [dict(e) for e in ended]

    def to_state(self) -> dict[str, Any]:
        with self._lock:
            records = [dict(entry) for entry in self._entries.values()]
            return {"records": records, "steps": self._steps, "minutes": self._minutes}

    @classmethod
    def from_state(
        cls,
        state: dict[str, Any],
        mode: Mode,
        budget: Budget | None = None,
        offline: bool = False,
        attended: bool = True,
    ) -> "Gate":
        """Money, decisions and grants come back; mode and limits are those of the new run."""
        gate = cls(mode, budget, offline, attended)
        gate._steps, gate._minutes = state.get("steps", 0), state.get("minutes", 0.0)
        for record in state.get("records", ()):
            gate._keep(dict(record))
            if record.get("grant"):
                gate._grants[record["grant"]["kind"]] = _micro(record["grant"]["usd"])
        return gate

    def _judge(self, request: Request) -> dict[str, Any]:
        entry = _record(request)
        if self.offline and leaves(request.risk, request.where):
            place = request.where or "another machine"
            return entry | {"decision": "deny", "reason": f"--offline: {request.tool} would reach {place}"}
        if not request.gated:
            return entry | {"decision": "allow", "reason": "free"}
        if self.mode is Mode.DENY:
            return entry | {"decision": "deny", "reason": f"--deny refuses every {request.risk} call"}
        over = self._over(entry)
        if over:
            return entry | {"decision": "deny", "reason": over, "limit": True}
        doubtful = self._doubtful(entry)
        if not doubtful and self._granted(entry):
            return entry | {"decision": "allow", "reason": "allowed for this session", "held": self._worst(entry)}
        wanted = f"{request.what}{f' at {request.where}' if request.where else ''}, {_price(entry)}"
        if self.attended and (doubtful or self.mode is Mode.ASK):
            return entry | {"decision": "ask", "reason": "a person decides", "card": self._card(request, entry)}
        if doubtful:
            reason = f"{wanted}: {IN_DOUBT}. Only a person may let it be tried again: go on with --ask at a terminal"
            return entry | {"decision": "deny", "reason": reason, "needs_approval": True}
        if self.mode is Mode.ASK:
            reason = f"nobody is there to approve: {wanted} (--yes with --max-usd allows it)"
        elif _cap(entry) is None:
            reason = f"--yes does not buy at an unknown price: {wanted}"
        elif _cap(entry) and self.budget.max_usd is None:
            reason = f"--yes spends only within a budget: {wanted} (add --max-usd)"
        else:
            return entry | {"decision": "allow", "reason": "--yes, within the budget", "held": self._worst(entry)}
        return entry | {"decision": "deny", "reason": reason, "needs_approval": True}

    def _doubtful(self, entry: dict[str, Any]) -> bool:
        """Whether the last that is known of this very call is that nobody knows whether it was done."""
        same = [e for e in self._entries.values() if e["fingerprint"] == entry["fingerprint"]]
        ended = [e for e in same if e["decision"] == "settled" and (e["spent"] != 0 or e.get("result") is not None)]
        return bool(ended) and bool(ended[-1].get("doubt"))

    def _over(self, entry: dict[str, Any]) -> str | None:
        left, cap, minutes = self._left(), _cap(entry), entry["minutes"]
        if left is not None and (left <= 0 if cap is None else cap > left):
            return f"{_price(entry)} is more than the ${left / 1e6:.2f} left of ${self.budget.max_usd:.2f} (--max-usd)"
        if self.budget.max_minutes is not None and minutes is not None:
            rest = max(0.0, self.budget.max_minutes - self._minutes)
            if minutes > rest:
                limit = self.budget.max_minutes
                return f"{minutes:g} minutes are more than the {rest:g} left of {limit:g} (--max-minutes)"
        return None

    def _worst(self, entry: dict[str, Any]) -> float | None:
        """What to reserve: an unknown price that a person accepted takes all that is left."""
        cap = _cap(entry)
        if cap is None:
            cap = self._left() or 0
        return cap / 1e6 if entry["priced"] else None

    def _granted(self, entry: dict[str, Any]) -> bool:
        kind, cap = _kind(entry), _cap(entry)
        if kind not in self._grants or cap is None:
            return False
        same = (e for e in self._entries.values() if _kind(e) == kind and e["decision"] in ("allow", "settled"))
        return sum(_micro(e["held"] or 0.0) + _micro(e["spent"] or 0.0) for e in same) + cap <= self._grants[kind]

    def _left(self) -> int | None:
        return None if self.budget.max_usd is None else _micro(self.budget.max_usd) - self._spent - self._held

    def _entry(self, id: str) -> dict[str, Any]:
        if id not in self._entries:
            raise KeyError(f"no request {id} was decided here")
        return self._entries[id]

    def _keep(self, entry: dict[str, Any]) -> Decision:
        old = self._entries.get(entry["id"], {})
        self._spent += _micro(entry["spent"] or 0.0) - _micro(old.get("spent") or 0.0)
        self._held += _micro(entry["held"] or 0.0) - _micro(old.get("held") or 0.0)
        self._entries[entry["id"]] = entry
        return _seen(entry, execute=True)

    def _card(self, request: Request, entry: dict[str, Any]) -> dict[str, Any]:
        left = self._left()
        return {name: entry[name] for name in ASKED} | {
            "price": _price(entry),
            "left_usd": None if left is None else left / 1e6,
            "arguments": request.arguments,
            "note": f"Careful: {IN_DOUBT}." if self._doubtful(entry) else "",
        }


def leaves(risk: Risk, where: str) -> bool:
    """Whether a call reaches beyond this machine. In doubt it does: only what is plainly local is local."""
    if not where:
        return risk is not Risk.FREE
    if where in ("local", "this machine") or (
        where.startswith(("/", "./", "../", "~/")) and not where.startswith("//")
    ):
        return False
    try:
        url = urlsplit(where if "://" in where else f"//{where}")
        host = url.hostname or ("localhost" if url.scheme in ("file", "unix") else "")
        return host != "localhost" and not ip_address(host).is_loopback
    except ValueError:  # a name, or something unreadable
        return True


def _record(request: Request) -> dict[str, Any]:
    told = {name: getattr(request, name) for name in (*ASKED, "priced")} | {"risk": str(request.risk)}
    undecided = {"decision": "", "reason": "", "by": "policy", "needs_approval": False, "limit": False}
    return told | undecided | {"fingerprint": request.fingerprint(), "held": None, "spent": None}


def _seen(entry: dict[str, Any], execute: bool = False) -> Decision:
    record = dict(entry)
    if entry["decision"] == "deny":
        return Deny(record, entry["reason"], entry["needs_approval"], entry["limit"])
    if entry["decision"] == "ask":
        return Ask(record, entry["card"])
    if entry["decision"] == "settled":
        return Allow(record, execute=False, finished=True, result=entry.get("result"))
    return Allow(record, execute=execute)


def _kind(entry: dict[str, Any]) -> str:
    """What a yes for the session covers: this tool; where it publishes or deletes, only there."""
    return entry["tool"] if entry["risk"] == Risk.PAID else f"{entry['tool']} {entry['risk']} {entry['where']}"


def _cap(entry: dict[str, Any]) -> int | None:
    known = [entry[name] for name in ("usd", "usd_max") if entry[name] is not None]
    if known:
        return _micro(max(known))
    return None if entry["priced"] else 0


def _price(entry: dict[str, Any]) -> str:
    usd, most = entry["usd"], entry["usd_max"]
    if usd is None and most is None:
        return "price unknown" if entry["priced"] else "free of charge"
    if usd is None or most is None or usd >= most:
        return f"at most ${max(usd or 0.0, most or 0.0):.2f}"
    return f"about ${usd:.2f}, at most ${most:.2f}"


def _sensible(number: float | None) -> None:
    if number is not None and not (math.isfinite(number) and number >= 0):
        raise ValueError(f"a price or a duration of {number} makes no sense")


def _micro(usd: float) -> int:
    return round(usd * 1_000_000)
