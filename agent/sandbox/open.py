"""One opener for the three places where code runs: E2B cloud, a self-hosted E2B, our embedded server.

They differ in URLs and key alone; all are driven by the official SDK. What the SDK leaves out is added here once: exact
deadlines, interrupt before kill, a lifetime that is extended while work runs, and a cut stream that is no success.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Queue, SimpleQueue
from typing import Any, Literal

import httpx
from e2b import SandboxException
from e2b.sandbox.commands.command_handle import CommandExitException
from e2b_code_interpreter import Context, Execution, OutputMessage, Result
from e2b_code_interpreter import Sandbox as Remote

from agent.errors import UserError
from agent.sandbox.place import Place, place, reaching
from agent.settings import Settings

END_MARK = "application/vnd.modelsmith.end+json"
GRACE = 3.0  # seconds an interrupted cell has to stop before its kernel is killed
EXTEND_EVERY = 60.0  # seconds; more often where the lifetime is short
STRIKES = 3  # so many extensions in a row that nobody answers mean that the sandbox is gone
BUSY = 5.0  # seconds a kernel gets to end a cell that somebody before us began
PAUSE = 0.5  # seconds after an interrupt: upstream's server may hand a late one to the next cell
WAITING = 256  # messages of a cell that its reader may be ahead of the caller
KERNEL_GONE = {"ContextRestarting", "UnexpectedEndOfExecution"}
# Run first in each kernel: it tells its pid, and marks the end of each cell from then on, because the SDK cannot tell a
# stream that was cut from one that ended.
BOOT = f"""
def _boot():
    import os
    from IPython import get_ipython
    from IPython.display import display
    shell = get_ipython()
    if not hasattr(shell, "end_is_marked"):
        shell.end_is_marked = True
        shell.events.register("post_run_cell", lambda result: display({{"{END_MARK}": {{}}}}, raw=True))
    print(os.getpid())
_boot(); del _boot
"""
# Run in a side kernel: the others are the children of the same parent.
FREE = """
import os, signal
for name in filter(str.isdigit, os.listdir("/proc")):
    try:
        parent = int(open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        continue
    if parent == os.getppid() > 1 and int(name) != os.getpid():
        os.kill(int(name), signal.SIGINT)
"""

Heard = tuple[Callable[[Any], Any] | None, Any]  # what is to be called with which message; no callback: the end
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


def open_sandbox(
    settings: Settings,
    *,
    sandbox_id: str | None = None,
    metadata: dict[str, str] | None = None,
    envs: dict[str, str] | None = None,
    template: str | None = None,
    lifetime: int | None = None,
) -> "Sandbox":
    """A new sandbox, or the living one of that id. A dead id raises `SandboxGone`; nothing is replaced silently."""
    where = place(settings)
    lifetime = lifetime or settings.sandbox_timeout
    options = {"timeout": lifetime, **where.options}
    try:
        with reaching(where):
            if sandbox_id:
                remote = Remote.connect(sandbox_id, **options)
            else:
                remote = Remote.create(template or where.template, metadata=metadata, envs=envs, **options)
    except SandboxException as error:
        if sandbox_id:
            raise SandboxGone(f"Sandbox {sandbox_id} cannot be reached: {error}") from None
        raise UserError(f"No sandbox could be opened ({where.name}): {error}.") from None
    return Sandbox(remote, where, lifetime)


class Sandbox:
    """An open sandbox. `remote` is the SDK's own object, for files and commands. One cell runs at a time; `interrupt`
    may be called from any thread, callbacks come on the thread that called `run_cell`."""

    def __init__(self, remote: Remote, where: Place, lifetime: int):
        self.remote, self.where, self.lifetime = remote, where, lifetime
        self.boot_code: list[str] = []  # run after ours in every new kernel
        self.kernel_pid: int | None = None
        self.side: Context | None = None  # a second kernel, from which the first is signalled
        self.signals: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self.cells = 0
        self.booting = False
        self.held = 0  # host calls under way: their time does not count towards a cell's deadline
        self.held_since = self.held_seconds = 0.0
        self.hold_lock = threading.Lock()
        self.quiet_until = 0.0
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
        on_start: Callable[[], None] | None = None,
    ) -> Cell:
        """Run one cell in the default context. At the deadline (seconds), or when `interrupt` is called, the cell is
        interrupted, and its kernel killed if that does not help. An exception of a callback, or Ctrl-C, interrupts it
        too and is raised when it has stopped. `on_start` is called when `interrupt` reaches this cell, right before it
        runs: who was stopped until then may raise there."""
        self.cells += 1
        if self.kernel_pid is None:
            self.boot()
        if on_start:
            on_start()
        number, ended, started = self.cells, False, time.monotonic()
        stopped: list[str] = []
        heard: Queue[Heard] = Queue(WAITING)
        done = threading.Event()

        def result(found: Result) -> None:
            nonlocal ended
            if END_MARK in (found.extra or {}):
                ended = True
            elif on_result:
                on_result(found)

        def pass_on(callback: Callable[[Any], Any] | None) -> Callable[[Any], None] | None:
            return (lambda message: heard.put((callback, message))) if callback else None

        def read() -> None:
            try:
                outcome: Any = self.execute(
                    code, on_stdout=pass_on(on_stdout), on_stderr=pass_on(on_stderr), on_result=pass_on(result)
                )
            except httpx.TransportError:  # the sandbox lives, the stream broke
                outcome = Execution()
            except BaseException as error:  # raised again by the thread that waits for it
                outcome = error
            done.set()
            heard.put((None, outcome))

        # The stream is read on a thread of its own: the SDK's wait for its next word cannot be broken by Ctrl-C.
        threading.Thread(target=read, daemon=True).start()
        watcher = threading.Thread(target=self.watch, args=(number, deadline, done, stopped), daemon=True)
        watcher.start()
        try:
            with self.kept(lambda error: heard.put((None, error))):
                execution = self.listen(heard)
        finally:
            done.set()
            self.signals.put((number, ""))
            watcher.join()
            if stopped and self.where.name != "embedded":
                self.quiet_until = time.monotonic() + PAUSE
        execution.results = [found for found in execution.results if END_MARK not in (found.extra or {})]
        end = self.judge(execution, ended, stopped)
        unsure = end == "kernel_died" or (not ended and end != "error")  # exit() dies after its cell's mark
        lost = unsure and self.kernel_changed(end)
        return Cell(end, execution, time.monotonic() - started, lost)

    def listen(self, heard: "Queue[Heard]") -> Execution:
        """Call back what the cell says until its stream has ended."""
        failed: BaseException | None = None
        while True:
            try:
                callback, message = heard.get()
                if callback is None:
                    break
                if failed is None:
                    callback(message)
            except BaseException as error:  # the caller's own, or Ctrl-C: the cell is stopped before it goes on
                if failed:
                    raise
                failed = error
                self.interrupt("caller")
        if failed or isinstance(message, BaseException):
            raise failed or message
        return message

    @staticmethod
    def judge(execution: Execution, ended: bool, stopped: list[str]) -> End:
        if stopped:
            return "deadline" if stopped[0] == "deadline" else "interrupted"
        if execution.error:
            return "kernel_died" if execution.error.name in KERNEL_GONE else "error"
        return "ok" if ended else "cut"

    def kernel_changed(self, end: End) -> bool:
        """After an end that was not marked: whether variables are gone. A cell that lost its stream may still run."""
        if not self.alive():
            raise SandboxGone("The sandbox is gone: it ended while a cell ran")
        before = self.kernel_pid
        if end == "cut":
            self.signal("SIGINT")
        self.boot()
        return self.kernel_pid != before

    def boot(self) -> None:
        """Make sure of the kernel: our end mark, and in a new one what the owner of this object wants to have in it."""
        for _ in range(2):  # a kernel that died while nobody looked is told to whoever comes first
            with self.impatient():
                told = self.execute(BOOT)
            if not told.error or told.error.name not in KERNEL_GONE:
                break
        if told.error or not told.logs.stdout:
            raise SandboxGone(f"A new kernel did not start: {told.error.value if told.error else 'no answer'}")
        pid = int("".join(told.logs.stdout).strip())
        if pid == self.kernel_pid:
            return
        self.kernel_pid = pid
        for code in self.boot_code:
            self.execute(code)

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """The kernel may still be at a cell whose host was killed: it gets a moment, then that cell is interrupted."""
        timer = threading.Timer(BUSY, self.free)
        timer.daemon, self.booting = True, True
        timer.start()
        try:
            yield
        finally:
            self.booting = False
            timer.cancel()

    def free(self) -> None:
        """Interrupt whatever cell runs in another kernel than the one that does it, whoever began it."""
        try:
            self.side = self.side or self.remote.create_code_context()
            self.remote.run_code(FREE, context=self.side, timeout=10)
        except (SandboxException, httpx.HTTPError):
            self.side = None

    def execute(self, code: str, **callbacks: Any) -> Execution:
        time.sleep(max(0.0, self.quiet_until - time.monotonic()))
        try:
            return self.remote.run_code(code, timeout=0, **callbacks)
        except (SandboxException, httpx.HTTPError) as error:
            raise self.gone(error) from None

    def gone(self, error: Exception) -> Exception:
        """`SandboxGone` when the sandbox is, else the error itself."""
        return error if self.alive() else SandboxGone(f"The sandbox is gone: {error}")

    def alive(self) -> bool:
        try:
            return self.remote.is_running(request_timeout=5)
        except (SandboxException, httpx.HTTPError):
            return False

    def interrupt(self, reason: str = "user") -> None:
        """Stop the cell that runs now; without one, nothing happens. May be called from any thread."""
        self.signals.put((self.cells, reason))
        if self.booting:
            threading.Thread(target=self.free, daemon=True).start()

    def watch(self, number: int, deadline: float | None, done: threading.Event, stopped: list[str]) -> None:
        """Beside each cell: its deadline and its interrupt."""
        started, held_before = time.monotonic(), self.held_time()
        while not done.is_set():
            rest = None
            if deadline is not None:
                used = time.monotonic() - started - (self.held_time() - held_before)
                rest = max(0.02 if self.held else 0.0, deadline - used)
            try:
                cell, reason = self.signals.get(timeout=rest) if rest != 0.0 else (number, "deadline")
            except Empty:
                continue
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
        """SIGINT, then SIGKILL, then the end of the sandbox. The cell's own stream tells how it went."""
        for name in ("SIGINT", "SIGKILL"):
            self.signal(name)
            if done.wait(GRACE):
                return
        self.close()  # not even its kernel can be killed

    def signal(self, name: str) -> None:
        """Signal the kernel from another one, which runs as the same user wherever the sandbox is."""
        code = f"import os, signal; os.kill({self.kernel_pid}, signal.{name})"
        try:
            if self.side is None:
                self.side = self.remote.create_code_context()
            error = self.remote.run_code(code, context=self.side, timeout=10).error
            if error and error.name in KERNEL_GONE:
                self.side = None
        except (SandboxException, httpx.HTTPError):
            self.side = None

    # -- life --------------------------------------------------------------------------------------------------------

    @contextmanager
    def kept(self, on_gone: Callable[[SandboxGone], Any] = lambda error: None) -> Iterator[None]:
        """While work runs in it, the sandbox does not reach its timeout. `on_gone` is told when nobody answers there
        any more, in case the work itself does not notice."""
        done = threading.Event()

        def keep() -> None:
            every, strikes = min(EXTEND_EVERY, self.lifetime / 3), 0
            rest = max(0.0, self.extended + every - time.monotonic())
            while not done.wait(rest):
                strikes = 0 if self.extend() else strikes + 1
                rest = every
                if strikes >= STRIKES:
                    on_gone(SandboxGone("The sandbox is gone: nobody answers there"))
                    return

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()

    def extend(self) -> bool:
        try:
            self.remote.set_timeout(self.lifetime)
        except (SandboxException, httpx.HTTPError):
            return False
        self.extended = time.monotonic()
        return True

    def command(self, line: str, **options: Any) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a shell command; a code other than 0 is no exception."""
        try:
            with self.kept():
                ended = self.remote.commands.run(line, **options)
        except CommandExitException as failed:
            return failed.exit_code, failed.stdout, failed.stderr
        except (SandboxException, httpx.HTTPError) as error:
            raise self.gone(error) from None
        return ended.exit_code, ended.stdout, ended.stderr

    def close(self) -> None:
        try:
            self.remote.kill()
        except (SandboxException, httpx.HTTPError):
            return  # gone already, or its timeout will end it
