"""The host's end of tool calls from the sandbox: every request is untrusted and is checked before anything happens.

Allow-list, size, schema, policy, once-only for what costs; each request is answered, whatever goes wrong. Calls run in
worker threads, so parallel calls are parallel. Secrets are taken out of results before they go in.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from agent.errors import UserError
from agent.loop.endings import ApprovalNeeded, TurnEnded
from agent.policy import Allow, Ask, Decision, Deny, Gate, Request, Risk
from agent.redact import Redactor
from agent.store.claims import Slot
from agent.toolbox import Tool
from tools.context import Context, ToolError, inside
from tools.envelope import brief_of

NUMBER = re.compile(r"[0-9a-f]{32}")
LARGEST_ARGUMENTS = 32 * 1024 * 1024
LARGEST_RESULT = 64 * 1024 * 1024
LARGEST_SHOWN = 200_000
MOST_AT_ONCE = 16
PROGRESS_EVERY = 0.5
log = logging.getLogger(__name__)

Emit = Callable[[str, dict[str, Any]], None]


class Bridge:
    """`answer` delivers a reply's JSON to the sandbox by the request's id; `once` opens the store's slot for an act."""

    def __init__(
        self,
        tools: dict[str, Tool],
        gate: Gate,
        emit: Emit,
        context: Context,
        once: Callable[[str], Slot],
        redactor: Redactor,
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.tools, self.gate, self.emit, self.context, self.once = tools, gate, emit, context, once
        self.redactor, self.hold = redactor, hold
        self.answer: Callable[[str, str], None] = lambda number, reply: None
        self.on_ending: Callable[[], None] = lambda: None
        self.ending: TurnEnded | None = None
        self.step = 0
        self.seen: set[str] = set()
        self.asked: dict[str, SimpleQueue[Decision]] = {}
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="tool")

    # -- from the sandbox --------------------------------------------------------------------------------------------

    def receive(self, message: Any) -> None:
        """A request off the result stream. Returns at once; a malformed one is dropped, for it names no place to answer
        to, and one that was seen before is not served again."""
        number = message.get("id") if isinstance(message, dict) else None
        if not isinstance(number, str) or not NUMBER.fullmatch(number):
            log.warning("a malformed request came out of the sandbox and was dropped")
            return
        with self.lock:
            if number in self.seen:
                return
            self.seen.add(number)
        self.pool.submit(copy_context().run, self.serve, message)

    def serve(self, message: dict[str, Any]) -> None:
        number = message["id"]
        try:
            with self.hold():
                result = self.handle(number, str(message.get("tool")), message.get("arguments"))
                reply = {"result": result, "told": brief_of(result) if is_envelope(result) else ""}
        except TurnEnded as ending:
            self.ending = ending
            reply = {"error": ending.reason}
        except ToolError as error:
            reply = {"error": str(error)}
        except BaseException:  # the sandbox waits for this reply, whatever happened
            log.exception("tool call %s failed", message.get("tool"))
            reply = {"error": f"{message.get('tool')} failed inside. The host's log has the details; try another way."}
        try:
            text = json.dumps(self.redactor.value(reply))
        except Exception:  # whatever a tool found to return
            text = json.dumps({"error": f"{message.get('tool')} gave a result that is not JSON."})
        if len(text) > LARGEST_RESULT:
            text = json.dumps({"error": f"The result is {len(text)} bytes, which is too large. Ask for less."})
        try:
            self.answer(number, text)
        except Exception:
            log.exception("a tool's reply could not be delivered")  # the sandbox is gone; its cell ends by itself
        if self.ending:
            self.on_ending()

    # -- one call ----------------------------------------------------------------------------------------------------

    def handle(self, number: str, name: str, arguments: Any, origin: str = "model") -> Any:
        """Check, ask, do. Raises ToolError with words for the caller."""
        tool = self.tools.get(name)
        if tool is None:
            raise ToolError(f"There is no tool '{name}'. There are: {', '.join(sorted(self.tools))}.")
        if not isinstance(arguments, dict):
            raise ToolError(f"The arguments of {name} must be a dict. It is {tool.signature_text()}")
        size = len(json.dumps(arguments))
        if size > LARGEST_ARGUMENTS:
            raise ToolError(f"The arguments of {name} are {size} bytes, which is too large. Pass the path of a file.")
        self.context.fence(arguments)
        checked = tool.check(arguments)
        called = {"id": number, "tool": name, "step": self.step}
        self.emit("tool_call", {**called, "arguments": shown(arguments), "origin": origin})
        started = time.monotonic()
        try:
            result = self.perform(number, tool, checked, origin)
            told = shown(result)
        except BaseException as error:
            why = (
                str(error)
                if isinstance(error, ToolError | TurnEnded | UserError)
                else f"{type(error).__name__}: {error}"
            )
            self.emit("tool_result", {**called, "ok": False, "seconds": time.monotonic() - started, "error": why})
            if isinstance(error, ToolError | TurnEnded):
                raise
            if isinstance(error, UserError):
                raise ToolError(why) from None
            log.exception("tool %s raised", name)
            raise ToolError(f"{name} failed: {why}") from error
        self.emit("tool_result", {**called, "ok": True, "seconds": time.monotonic() - started, "result": told})
        return result

    def perform(self, number: str, tool: Tool, arguments: dict[str, Any], origin: str) -> Any:
        stake = tool.stake(arguments)
        request = Request(
            id=number,
            tool=tool.name,
            arguments=arguments,
            risk=Risk(tool.risk),
            what=stake.what,
            where=stake.where,
            usd=stake.usd,
            usd_max=stake.usd_max,
            minutes=stake.minutes,
            origin=origin,
        )
        decision = self.allowed(request)
        if not request.gated:
            return self.run(number, tool, arguments)
        if not decision.execute:
            if decision.finished:
                return decision.result
            raise ToolError("This very call is already under way. Its outcome will be in the first one's result.")
        return self.run_once(request, tool, arguments)

    def allowed(self, request: Request) -> Allow:
        """The gate's word; a person's, where the gate asks for it."""
        self.asked.setdefault(request.id, SimpleQueue())  # before anybody can answer
        decision = self.gate.decide(request)
        if request.gated or isinstance(decision, Deny):
            self.record(decision)
        if isinstance(decision, Ask):
            decision = self.wait(request.id)
        if isinstance(decision, Allow):
            return decision
        assert isinstance(decision, Deny)
        if decision.needs_approval:
            raise ApprovalNeeded(decision.reason)
        raise ToolError(f"Not allowed: {decision.reason}. Do not try the same call again.")

    def wait(self, number: str) -> Decision:
        """Until the person answers, or the turn is cancelled."""
        self.context.check()  # from here on, who cancels finds the question and answers it
        self.emit("state", {"state": "waiting", "reason": "a person's approval"})
        answer = self.asked[number].get()
        self.record(answer)
        self.context.check()
        self.emit("state", {"state": "running"})
        return answer

    def run_once(self, request: Request, tool: Tool, arguments: dict[str, Any]) -> Any:
        """An act that costs, publishes or deletes: begun in the store before it is done, so that a crash in between is
        seen as what it is, an act whose outcome nobody knows, and never repeated by itself."""
        with self.once(request.fingerprint()) as slot:
            if slot.state != "new":
                return self.not_again(request, slot)
            try:
                result = self.run(request.id, tool, arguments)
            except ToolError:
                slot.abandon()
                self.emit("approval", self.gate.settle(request.id, 0.0))
                raise
            slot.finish(result)
        usd = result.get("usd") if isinstance(result, dict) else None
        self.emit("approval", self.gate.settle(request.id, usd if isinstance(usd, int | float) else None, result))
        return result

    def not_again(self, request: Request, slot: Slot) -> Any:
        """This request does nothing and costs nothing. With an unknown outcome, trying again needs a person's yes."""
        if slot.state == "running":
            self.emit("approval", self.gate.settle(request.id, 0.0))
            raise ToolError(f"{request.tool} is under way with these very arguments. Wait for that call's result.")
        unknown = (
            f"{request.tool} was begun before with these arguments and its outcome is not known. "
            "Look whether it happened. The same call again needs the person's yes."
        )
        if slot.state != "done":
            self.emit("approval", self.gate.doubt(request.id, unknown))
            raise ToolError(unknown)
        self.emit("approval", self.gate.settle(request.id, 0.0, slot.result))
        return slot.result

    def run(self, number: str, tool: Tool, arguments: dict[str, Any]) -> Any:
        self.context.check()
        with inside(replace(self.context, progress=self.progress(number), tell=self.emit)):
            return tool.function(**arguments)

    def progress(self, number: str) -> Callable[[float | None, str], None]:
        """What a tool tells while it works, as events, at most two a second."""
        told_at = 0.0

        def tell(done: float | None, text: str) -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= PROGRESS_EVERY:
                told_at = time.monotonic()
                self.emit("job", {"id": number, "state": "running", "progress": done, "detail": text})

        return tell

    # -- from the person ---------------------------------------------------------------------------------------------

    def approve(self, number: str, session_usd: float | None = None) -> None:
        self.asked[number].put(self.gate.approve(number, session_usd))

    def refuse(self, number: str, reason: str = "") -> None:
        self.asked[number].put(self.gate.refuse(number, reason))

    def cancel(self) -> None:
        """Running tools see the context's flag; whoever waits for a person is told no."""
        self.context.cancel.set()
        for number in list(self.asked):
            with suppress(KeyError):  # not decided yet: it will see the flag
                self.refuse(number, "the turn was cancelled")

    def close(self) -> None:
        """No more calls. One that is deaf to its cancel flag keeps its thread, and nobody waits for it."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def record(self, decision: Decision) -> None:
        record = decision.record
        if card := record.get("card"):
            record = {**record, "card": {**card, "arguments": shown(card["arguments"])}}
        self.emit("approval", record)


def is_envelope(result: Any) -> bool:
    return isinstance(result, dict) and isinstance(result.get("type"), str)


def shown(result: Any) -> Any:
    """A result as it is kept in the log: whole unless it is large; the model and the sandbox got all of it."""
    text = json.dumps(result)
    if len(text) <= LARGEST_SHOWN:
        return result
    return {"type": "text", "text": text[:LARGEST_SHOWN], "note": f"cut: {len(text)} characters in all"}
