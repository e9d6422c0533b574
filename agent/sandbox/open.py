"""One opener for the three places where code runs: E2B cloud, a self-hosted E2B, our embedded server.

They differ in URLs and key alone; all are driven by the official SDK. What the SDK leaves out is added here once: exact
deadlines, interrupt before kill, a lifetime that is extended while work runs, and an end that is never taken for success.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Literal

import httpx
from e2b import SandboxException
from e2b.sandbox.commands.command_handle import CommandExitException
from e2b_code_interpreter import Context, Execution, OutputMessage, Result
from e2b_code_interpreter import Sandbox as Remote

from agent.errors import UserError
from agent.sandbox import daemon
from agent.settings import Settings

END_MARK = "application/vnd.modelsmith.end+json"
GRACE = 3.0  # seconds an interrupted cell has to stop before its kernel is killed
EXTEND_EVERY = 60.0
KERNEL_GONE = {"ContextRestarting", "UnexpectedEndOfExecution"}
# Run once in each new kernel: it tells its pid, and marks the end of each cell, because the SDK cannot tell a stream
# that was cut from one that ended.
BOOT = f"""
def _boot():
    import os
    from IPython import get_ipython
    from IPython.display import display
    get_ipython().events.register("post_run_cell", lambda result: display({{"{END_MARK}": {{}}}}, raw=True))
    print(os.getpid())
_boot(); del _boot
"""

End = Literal["ok", "error", "interrupted", "deadline", "kernel_died", "cut"]  # cut: the stream stopped short


class SandboxGone(Exception):
    """The sandbox is no more: killed, timed out, or its server went away."""


@dataclass
class Cell:
    """How a cell ended. `execution` holds the SDK's results, logs and error."""

    end: End
    execution: Execution
    seconds: float
    kernel_lost: bool = False  # variables and imports are gone; the next cell runs in a new kernel


@dataclass
class Place:
    """Where sandboxes live by the settings, and how the SDK gets there."""

    name: Literal["embedded", "e2b", "self-hosted e2b"]
    options: dict[str, Any] = field(repr=False)
    template: str | None = None


def place(settings: Settings) -> Place:
    """`auto`: E2B when a key is set and leaving the machine is allowed, else the embedded server."""
    key = settings.e2b_api_key
    if settings.sandbox == "e2b" and key is None:
        raise UserError("No E2B key is set. Set E2B_API_KEY, or use --sandbox embedded.")
    if settings.sandbox == "e2b" and settings.offline and not settings.e2b_sandbox_url:
        raise UserError("E2B cloud cannot be used offline. Leave out --offline, or use --sandbox embedded.")
    if settings.sandbox == "embedded" or key is None or (settings.offline and settings.sandbox == "auto"):
        address = daemon.ensure(settings)
        return Place("embedded", {"api_key": address.key, "api_url": address.url, "sandbox_url": address.url})
    options = {"api_key": key.get_secret_value()}
    if settings.e2b_api_url:
        options |= {"api_url": settings.e2b_api_url, "sandbox_url": settings.e2b_sandbox_url or settings.e2b_api_url}
        return Place("self-hosted e2b", options, settings.e2b_template)
    return Place("e2b", options, settings.e2b_template)


def open_sandbox(
    settings: Settings,
    *,
    sandbox_id: str | None = None,
    metadata: dict[str, str] | None = None,
    envs: dict[str, str] | None = None,
) -> "Sandbox":
    """A new sandbox, or the living one of that id. A dead id raises `SandboxGone`; nothing is replaced silently."""
    where = place(settings)
    options = {"timeout": settings.sandbox_timeout, **where.options}
    try:
        if sandbox_id:
            remote = Remote.connect(sandbox_id, **options)
        else:
            remote = Remote.create(where.template, metadata=metadata, envs=envs, **options)
    except (SandboxException, httpx.HTTPError) as error:
        if sandbox_id:
            raise SandboxGone(f"Sandbox {sandbox_id} cannot be reached: {error}") from None
        raise UserError(f"No sandbox could be opened ({where.name}): {error}. `doctor` shows what is wrong.") from None
    return Sandbox(remote, where, settings.sandbox_timeout)


class Sandbox:
    """An open sandbox. `remote` is the SDK's own object, for files and commands."""

    def __init__(self, remote: Remote, where: Place, lifetime: int):
        self.remote, self.where, self.lifetime = remote, where, lifetime
        self.boot_code: list[str] = []  # run after ours in every new kernel
        self.kernel_pid: int | None = None
        self.side: Context | None = None  # a second kernel, from which the first is signalled
        self.signals: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self.cells = 0
        self.held = 0  # host calls under way: their time does not count towards a cell's deadline
        self.held_since = self.held_seconds = 0.0
        self.hold_lock = threading.Lock()
        self.extended = time.monotonic()

    @property
    def id(self) -> str:
        return self.remote.sandbox_id

    # -- cells -------------------------------------------------------------------------------------------------------

    def run_cell(
        self,
        code: str,
        *,
        deadline: float | None = None,
        on_stdout: Callable[[OutputMessage], Any] | None = None,
        on_stderr: Callable[[OutputMessage], Any] | None = None,
        on_result: Callable[[Result], Any] | None = None,
    ) -> Cell:
        """Run one cell in the default context. At the deadline (seconds), or when `interrupt` is called, the cell is
        interrupted, and its kernel killed if that does not help."""
        if self.kernel_pid is None:
            self.boot()
        self.cells += 1
        number, ended, started = self.cells, False, time.monotonic()
        stopped: list[str] = []

        def result(found: Result) -> None:
            nonlocal ended
            if END_MARK in (found.extra or {}):
                ended = True
            elif on_result:
                on_result(found)

        done = threading.Event()
        watcher = threading.Thread(target=self.watch, args=(number, deadline, done, stopped), daemon=True)
        watcher.start()
        try:
            execution = self.execute(code, on_stdout=on_stdout, on_stderr=on_stderr, on_result=result)
        finally:
            done.set()
            self.signals.put((number, ""))
            watcher.join()
        execution.results = [found for found in execution.results if END_MARK not in (found.extra or {})]
        end = self.judge(execution, ended, stopped)
        lost = end == "cut" or bool(execution.error and execution.error.name in KERNEL_GONE)
        if lost:
            self.kernel_pid = None
        return Cell(end, execution, time.monotonic() - started, lost)

    @staticmethod
    def judge(execution: Execution, ended: bool, stopped: list[str]) -> End:
        if stopped:
            return "deadline" if stopped[0] == "deadline" else "interrupted"
        if execution.error:
            return "kernel_died" if execution.error.name in KERNEL_GONE else "error"
        return "ok" if ended else "cut"

    def boot(self) -> None:
        """Prepare a new kernel: our end mark, then what the owner of this object wants to have in it."""
        self.signals = SimpleQueue()
        told = self.execute(BOOT)
        if told.error or not told.logs.stdout:
            raise SandboxGone(f"A new kernel did not start: {told.error.value if told.error else 'no answer'}")
        self.kernel_pid = int("".join(told.logs.stdout).strip())
        for code in self.boot_code:
            self.execute(code)

    def execute(self, code: str, **callbacks: Any) -> Execution:
        try:
            return self.remote.run_code(code, timeout=0, **callbacks)
        except (SandboxException, httpx.HTTPError) as error:
            raise self.gone(error) from None

    def gone(self, error: Exception) -> Exception:
        """`SandboxGone` when the sandbox is, else the error itself."""
        try:
            alive = self.remote.is_running(request_timeout=5)
        except (SandboxException, httpx.HTTPError):
            alive = False
        return error if alive else SandboxGone(f"The sandbox is gone: {error}")

    def interrupt(self, reason: str = "user") -> None:
        """Stop the cell that runs now; without one, nothing happens. May be called from any thread."""
        self.signals.put((self.cells, reason))

    def watch(self, number: int, deadline: float | None, done: threading.Event, stopped: list[str]) -> None:
        """Beside each cell: its deadline, its interrupt, and the sandbox's lifetime."""
        started, held_before = time.monotonic(), self.held_time()
        while not done.is_set():
            used = time.monotonic() - started - (self.held_time() - held_before)
            rest = EXTEND_EVERY if deadline is None else min(EXTEND_EVERY, max(0.02, deadline - used))
            try:
                cell, reason = self.signals.get(timeout=rest)
            except Empty:
                cell, reason = number, ""
                used = time.monotonic() - started - (self.held_time() - held_before)
                if deadline is not None and used >= deadline:
                    reason = "deadline"
                elif time.monotonic() - self.extended >= EXTEND_EVERY:
                    self.extend()
            if cell == number and reason and not done.is_set():
                stopped.append(reason)
                self.stop_cell(done)
                return

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While the host works for the cell, or a person thinks, the cell's deadline stands still."""
        with self.hold_lock:
            self.held += 1
            if self.held == 1:
                self.held_since = time.monotonic()
        try:
            yield
        finally:
            with self.hold_lock:
                self.held -= 1
                if self.held == 0:
                    self.held_seconds += time.monotonic() - self.held_since

    def held_time(self) -> float:
        with self.hold_lock:
            return self.held_seconds + (time.monotonic() - self.held_since if self.held else 0.0)

    def stop_cell(self, done: threading.Event) -> None:
        """SIGINT, then SIGKILL. The cell's own thread sees the end come down its stream."""
        for name in ("SIGINT", "SIGKILL"):
            code = f"import os, signal; os.kill({self.kernel_pid}, signal.{name})"
            try:
                if self.side is None:
                    self.side = self.remote.create_code_context()
                self.remote.run_code(code, context=self.side, timeout=10)
            except (SandboxException, httpx.HTTPError):
                self.side = None
            if done.wait(GRACE):
                return

    # -- life --------------------------------------------------------------------------------------------------------

    def extend(self) -> None:
        try:
            self.remote.set_timeout(self.lifetime)
        except (SandboxException, httpx.HTTPError):
            return  # the cell itself will tell if the sandbox is gone
        self.extended = time.monotonic()

    def command(self, line: str, **options: Any) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a shell command; a code other than 0 is no exception."""
        try:
            ended = self.remote.commands.run(line, **options)
        except CommandExitException as failed:
            return failed.exit_code, failed.stdout, failed.stderr
        return ended.exit_code, ended.stdout, ended.stderr

    def close(self) -> None:
        try:
            self.remote.kill()
        except (SandboxException, httpx.HTTPError):
            return  # gone already, or its timeout will end it
