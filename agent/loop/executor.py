"""Runs the model's cells in the sandbox: output live to whoever listens, a capped observation to the model.

State lives in the kernel across steps and turns. A dead kernel is told to the model and its stubs are sent again; a
dead sandbox is replaced once a turn, with the model told what is lost, or ends it. Nothing here trusts what comes back.
"""

import base64
import binascii
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from e2b import SandboxException
from e2b_code_interpreter import OutputMessage, Result
from smolagents.local_python_executor import CodeOutput
from smolagents.remote_executors import PythonExecutor

from agent.loop import inside
from agent.loop.bridge import Bridge
from agent.loop.carry import fetchable
from agent.loop.endings import TurnCancelled, TurnEnded, TurnFailed
from agent.loop.trouble import headline, missing, plain, traceback
from agent.sandbox.open import Cell, Sandbox, SandboxGone
from tools.envelope import markdown_of

OUTPUTS = "/home/user/.outputs"
PICTURES = {"png": "png", "jpeg": "jpg", "svg": "svg", "pdf": "pdf"}
DEADLINE = 1800.0
STOPPED = 2_000  # characters that are told of the output of a cell that was stopped
REPLACED = (
    "The sandbox was gone and a new one was opened. Files, variables and running processes of the old one are lost. "
    "The person's files were put back."
)

Emit = Callable[[str, dict[str, Any]], None]


@dataclass
class Heard:
    """What one cell sent while it ran."""

    printed: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    answer: Any = None
    answered: bool = False


class SandboxExecutor(PythonExecutor):
    """`opener` opens a sandbox, `settle` puts the person's files into a new one."""

    def __init__(
        self,
        opener: Callable[[], Sandbox],
        settle: Callable[[Sandbox], None],
        bridge: Bridge,
        emit: Emit,
        artifacts: Path,
        observation_cap: int = 20_000,
    ):
        self.opener, self.settle, self.bridge, self.emit = opener, settle, bridge, emit
        self.artifacts, self.cap = artifacts, observation_cap
        self.sandbox: Sandbox | None = None
        self.folder = ""
        self.step = 0
        self.replaced = False
        self.cancelled = False
        bridge.answer = self.reply
        bridge.on_ending = self.interrupt

    # -- what the engine calls ---------------------------------------------------------------------------------------

    def send_tools(self, tools: dict[str, Any]) -> None:
        """The stubs go in with the kernel's first cell, and again whenever a kernel is new; nothing to do per turn."""

    def send_variables(self, variables: dict[str, Any]) -> None:
        if variables:
            self.ready().execute(f"import json; globals().update(json.loads({json.dumps(json.dumps(variables))}))")

    def __call__(self, code: str) -> CodeOutput:
        heard, notes = Heard(), []
        try:
            cell = self.run(code, heard)
            self.check()
        except TurnEnded as ending:
            ending.printed = plain("".join(heard.printed))[-STOPPED:].strip()
            raise
        except SandboxGone as gone:
            if self.cancelled:
                raise TurnCancelled("cancelled by the person") from None
            if self.replaced:
                raise TurnFailed(f"The sandbox was lost twice in this turn: {gone}") from None
            notes.append(self.replace(str(gone)))
            return CodeOutput("", "\n".join(notes), False)
        if heard.answered:
            return CodeOutput(heard.answer, self.observation(heard, cell), True)
        return CodeOutput("", self.observation(heard, cell), False)

    def check(self) -> None:
        """Was the turn ended from outside?"""
        if self.cancelled:
            raise TurnCancelled("cancelled by the person")
        if self.bridge.ending:
            raise self.bridge.ending

    def cleanup(self) -> None:
        if self.sandbox:
            self.sandbox.close()

    # -- the sandbox -------------------------------------------------------------------------------------------------

    def ready(self) -> Sandbox:
        """The sandbox, opened when it is first needed."""
        if self.sandbox is None:
            self.attach(self.opener())
        assert self.sandbox
        return self.sandbox

    def forget_dead(self) -> None:
        """Between two turns: a sandbox that ended meanwhile is not used again."""
        if self.sandbox and not self.sandbox.alive():
            self.sandbox = None

    def attach(self, sandbox: Sandbox) -> None:
        self.folder = f"/tmp/.calls-{secrets.token_hex(8)}"
        told = json.dumps([tool.told() for tool in self.bridge.tools.values()])
        source = json.dumps(Path(inside.__file__).read_text())
        sandbox.boot_code = [
            "import sys, types, json\n"
            f"_module = types.ModuleType('modelsmith'); exec({source}, _module.__dict__)\n"
            "sys.modules['modelsmith'] = _module\n"
            f"_module.install({self.folder!r}, json.loads({json.dumps(told)}), globals())\n"
            "del _module, sys, types, json"
        ]
        self.sandbox = sandbox
        self.settle(sandbox)

    def replace(self, why: str) -> str:
        self.emit("error", {"text": f"The sandbox was lost: {why}", "kind": "sandbox", "hint": "A new one is opened."})
        self.replaced, self.sandbox = True, None
        self.ready()
        return REPLACED

    def reply(self, number: str, text: str) -> None:
        assert self.sandbox
        self.sandbox.remote.files.write(f"{self.folder}/{number}", text)

    def interrupt(self) -> None:
        if self.sandbox:
            self.sandbox.interrupt("ending")

    def cancel(self) -> None:
        self.cancelled = True
        self.interrupt()

    # -- one cell ----------------------------------------------------------------------------------------------------

    def run(self, code: str, heard: Heard) -> Cell:
        def printed(stream: str) -> Callable[[OutputMessage], None]:
            def take(message: OutputMessage) -> None:
                heard.printed.append(message.line)
                self.emit("output", {"text": message.line, "stream": stream, "step": self.step})

            return take

        sandbox = self.ready()
        return sandbox.run_cell(
            code,
            deadline=DEADLINE,
            on_stdout=printed("stdout"),
            on_stderr=printed("stderr"),
            on_result=lambda result: self.receive(result, heard),
            on_start=self.check,
        )

    def receive(self, result: Result, heard: Heard) -> None:
        """Called on the thread that reads the stream, so it must not wait."""
        extra = result.extra or {}
        if inside.CALL in extra:
            self.bridge.receive(extra[inside.CALL])
        elif inside.FINAL in extra:
            if not heard.answered:  # a bare except around it must not replace it
                heard.answered, heard.answer = True, dict(extra[inside.FINAL]).get("answer")
        elif inside.SHOW in extra:
            heard.results.append(self.keep_shown(dict(extra[inside.SHOW]).get("value"), len(heard.results)))
        else:
            heard.results.append(self.keep(result, len(heard.results)))

    def keep(self, result: Result, number: int) -> str:
        """Pictures become artifacts; the model gets text."""
        for kind, suffix in PICTURES.items():
            picture = getattr(result, kind)
            if picture:
                try:
                    data = picture.encode() if kind == "svg" else base64.b64decode(picture)
                except (binascii.Error, ValueError):
                    continue
                return self.keep_file(data, f"step-{self.step}-{number}.{suffix}", "plot")
        if result.text is not None:
            return f"Result: {result.text}" if result.is_main_result else result.text
        return f"[shown: {', '.join(result.formats())}]"

    def keep_shown(self, value: Any, number: int) -> str:
        if isinstance(value, dict) and value.get("type") == "plot":
            try:
                data = base64.b64decode(str(value.get("png")))
            except (binascii.Error, ValueError):
                return "[a plot that could not be read]"
            return self.keep_file(data, f"step-{self.step}-{number}.png", "plot")
        envelope = value if isinstance(value, dict) and "type" in value else {"type": "text", "text": str(value)}
        name = f"step-{self.step}-{number}.json"
        self.keep_file(json.dumps(envelope).encode(), name, str(envelope.get("type")))
        return f"[shown to the person]\n{markdown_of(envelope, 10)}"

    def keep_file(self, data: bytes, name: str, kind: str) -> str:
        self.artifacts.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.artifacts / name
        path.write_bytes(data)
        self.emit("artifact", {"path": str(path), "kind": kind, "title": name, "size": len(data), "step": self.step})
        return f"[{kind} shown to the person: {name}]"

    # -- what the model reads ----------------------------------------------------------------------------------------

    def observation(self, heard: Heard, cell: Cell) -> str:
        clean = self.bridge.redactor.text  # before it is cut: half a secret is not recognised
        said = [clean(plain(text)).rstrip("\n") for text in ("".join(heard.printed), *heard.results)]
        parts = [self.capped("\n".join(text for text in said if text.strip()))]
        if cell.end in ("error", "kernel_died", "cut", "deadline"):
            parts.append(self.trouble(cell))
        return "\n".join(filter(None, parts)) or "(no output)"

    def trouble(self, cell: Cell) -> str:
        if cell.execution.error and cell.execution.error.name == "FinalAnswer":
            return ""
        told = headline(cell, DEADLINE)
        trace = (
            ""
            if cell.kernel_lost or cell.end == "deadline"
            else self.capped(self.bridge.redactor.text(traceback(cell)))
        )
        self.emit("error", {"text": told, "kind": "code", "detail": trace, "step": self.step})
        return "\n".join(filter(None, [trace or told, self.elsewhere(missing(cell))]))

    def elsewhere(self, path: str) -> str:
        """A tool told a path of the person's machine and the code looked for it here."""
        if path and fetchable(path, self.bridge.context):
            return f"That file is on the person's machine. `fetch({path!r})` copies it into the sandbox."
        return ""

    def capped(self, text: str) -> str:
        """Head and tail; the whole stays in a file of the sandbox whose path is told."""
        if len(text) <= self.cap:
            return text
        head, tail = text[: self.cap * 2 // 3], text[-self.cap // 3 :]
        return f"{head}\n[… {len(text) - self.cap} characters left out; {self.kept_whole(text)} …]\n{tail}"

    def kept_whole(self, text: str) -> str:
        path = f"{OUTPUTS}/step-{self.step}-{secrets.token_hex(2)}.txt"
        assert self.sandbox
        try:
            self.sandbox.remote.files.write(path, text)
        except (SandboxException, httpx.HTTPError) as error:  # its disk is full, or it just ended
            return f"they could not be kept in a file: {plain(str(error))[:200]}"
        return f"all of it is in {path}"
