"""Run one program in a sandbox of its own, with one folder of this host to work in. The tools know it as their `jail`.

The program sees that folder and what is lent to it to read, each at its own path, and nothing else of the host. The
embedded server shares them; any other E2B gets copies, and the folder's files are copied back. The sandbox ends with
the program, or some time after whoever started it is gone. No secret goes in.
"""

import fcntl
import hashlib
import os
import shlex
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from pathlib import Path
from queue import Queue
from typing import Any, Literal

import httpx
from e2b import SandboxException
from e2b.sandbox.commands.command_handle import CommandExitException

from agent.sandbox import copies, manage
from agent.sandbox.daemon import make_root, root
from agent.sandbox.embedded.config import Share
from agent.sandbox.embedded.lending import Lending
from agent.sandbox.open import Sandbox, SandboxGone, open_sandbox
from agent.sandbox.place import name_of
from agent.settings import Settings
from tools.context import End, Ended, Line, ToolError

LIFETIME = 120  # seconds it lives on when nobody extends it any more
LOOK = 0.25  # seconds between two looks whether the program shall stop
KEPT = 200  # last lines
MARK = "jail"  # in a sandbox's metadata: whose folder it has
PASSED = ("OMP_", "MKL_", "OPENBLAS_", "PYTORCH_", "CUDA_", "NCCL_")
SIGNALS = {"signal: killed": 137, "signal: terminated": 143, "signal: aborted": 134, "signal: segmentation fault": 139}


class Lines:
    """Pieces of one stream in, whole lines out."""

    def __init__(self, take: Line):
        self.take, self.rest = take, ""
        self.broke: Exception | None = None  # what the reader of the lines raised

    def feed(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for one in lines:
            self.pass_on(one)

    def end(self) -> None:
        if self.rest:
            self.pass_on(self.rest)

    def pass_on(self, line: str) -> None:
        try:
            self.take(line)
        except Exception as error:
            self.broke = error
            raise


def run(
    settings: Settings,
    folder: Path,
    command: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str],
    reads: Sequence[Path],
    line: Line,
    grace: float,
    cancel: threading.Event,
) -> Ended:
    folder, reads = folder.resolve(strict=True), [path.resolve(strict=True) for path in reads]
    envs = {name: value for name, value in os.environ.items() if name.startswith(PASSED)} | dict(env)
    last: deque[str] = deque(maxlen=KEPT)
    started = time.monotonic()

    def heard(text: str) -> None:
        last.append(text)
        line(text)

    def ended(end: End, code: int | None, *more: str) -> Ended:
        return Ended(end, code, time.monotonic() - started, "\n".join([*last, *more]))

    try:
        with alone(settings, folder), opened(settings, folder, reads) as sandbox:
            program = begin(sandbox, folder, command, envs)
            with stopping(sandbox, program.pid, timeout, grace, cancel) as asked:
                code = beside(follow, sandbox, program, heard)
        return ended(asked[0] if asked else "exited", code)
    except SandboxGone as gone:
        return ended("lost", None, str(gone))


@contextmanager
def opened(settings: Settings, folder: Path, reads: list[Path]) -> Iterator[Sandbox]:
    """A sandbox that has them; with copies, what the folder holds afterwards is brought back."""
    shares = name_of(settings) == "embedded"
    meant = {MARK: str(folder)}
    if shares:
        lent = [Share(folder, str(folder), True), *(Share(path, str(path)) for path in reads)]
        name = Lending(lent, room(settings)).leave(root(settings))
        sandbox = open_sandbox(settings, metadata=meant, template=name, lifetime=LIFETIME)
    else:
        sandbox = open_sandbox(settings, metadata=meant, lifetime=LIFETIME)
    try:
        with sandbox.kept():
            if not shares:
                copies.put(sandbox, [folder, *reads])
            yield sandbox
            if not shares:
                copies.bring_back(sandbox, folder, reads)
    finally:
        sandbox.close()


def begin(sandbox: Sandbox, folder: Path, command: Sequence[str], envs: dict[str, str]) -> Any:
    words = ["python3" if word == sys.executable and sandbox.where.name != "embedded" else word for word in command]
    options: dict[str, Any] = {"envs": envs, "cwd": str(folder), "timeout": 0, "stdin": False}
    try:
        return sandbox.remote.commands.run(f"exec {shlex.join(words)}", background=True, retain_output=False, **options)
    except (SandboxException, httpx.HTTPError) as error:
        raise sandbox.gone(error) from None


def beside(work: Callable[..., int], *arguments: Any) -> int:
    """Done on a thread of its own: the SDK's wait for its next word keeps signals from being handled."""
    told: Queue[int | BaseException] = Queue()

    def do() -> None:
        try:
            told.put(work(*arguments))
        except BaseException as error:  # raised again by who waits
            told.put(error)

    threading.Thread(target=copy_context().run, args=(do,), daemon=True).start()
    if isinstance(found := told.get(), BaseException):
        raise found
    return found


def follow(sandbox: Sandbox, program: Any, line: Line) -> int:
    """Read what it says until it has ended; its exit code. A stream that broke is taken up again."""
    out, err = Lines(line), Lines(line)
    while True:
        try:
            code = program.wait(on_stdout=out.feed, on_stderr=err.feed).exit_code
            break
        except CommandExitException as ended:
            code = SIGNALS.get(ended.error or "", ended.exit_code)
            break
        except Exception as error:  # the SDK's own kinds, and a plain Exception for a stream that stopped short
            if out.broke or err.broke:
                raise
            if not sandbox.alive():
                raise SandboxGone(f"The sandbox is gone: {error}") from None
            try:
                program = sandbox.remote.commands.connect(program.pid, timeout=0, retain_output=False)
            except (SandboxException, httpx.HTTPError):
                raise SandboxGone("The program ended while nobody could hear how") from None
    out.end()
    err.end()
    return code


@contextmanager
def stopping(
    sandbox: Sandbox, pid: int, timeout: float, grace: float, cancel: threading.Event
) -> Iterator[list[Literal["timeout", "cancelled"]]]:
    """Beside the program: at its time, or when asked, TERM to it, then the end of all. Yields why it was stopped."""
    done = threading.Event()
    asked: list[Literal["timeout", "cancelled"]] = []

    def watch() -> None:
        until = time.monotonic() + timeout
        while not done.is_set() and not cancel.is_set() and time.monotonic() < until:
            done.wait(min(LOOK, max(0.0, until - time.monotonic())))
        if done.is_set():
            return
        asked.append("cancelled" if cancel.is_set() else "timeout")
        with suppress(SandboxException, httpx.HTTPError):
            sandbox.command(f"kill -TERM {pid}")
        if not done.wait(grace):
            with suppress(SandboxException, httpx.HTTPError):
                sandbox.remote.commands.kill(pid)
        if not done.wait(grace):
            sandbox.close()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield asked
    finally:
        done.set()
        watcher.join()


@contextmanager
def alone(settings: Settings, folder: Path) -> Iterator[None]:
    """One program at a time has the folder. A sandbox that an earlier one left without its owner is ended first."""
    make_root(settings)
    place = root(settings) / "jails"
    place.mkdir(exist_ok=True, mode=0o700)
    with (place / hashlib.sha256(str(folder).encode()).hexdigest()[:32]).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ToolError(
                f"Another program works in {folder} in its sandbox. Wait for its end, or stop it."
            ) from None
        for row in manage.listing(settings):
            if row["metadata"].get(MARK) == str(folder):
                manage.kill(settings, row["id"])
        yield


def room(settings: Settings) -> dict[str, float]:
    """What a program that trains or compiles may use: most of the machine, unless the settings say how much."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4 // 2**20
    wanted: dict[str, float] = {
        "memory_mb": settings.sandbox_memory_mb or memory,
        "pids": settings.sandbox_pids or 4096,
    }
    return wanted | {"tmp_mb": 4096, "shm_mb": 2048, "file_mb": 2**20}
