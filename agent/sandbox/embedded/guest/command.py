"""One running command: its session, its pipes or terminal, those who listen, and its end.

Output goes to every listener; a full listener stops the reading, and so the command, until it has caught up or left.
With nobody listening the output is read and dropped, so a server left in the background never blocks. Everything the
command wrote comes before its end; what a daemon left behind writes later is waited for only briefly.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import IO

from . import pty
from .connect import RpcError
from .tree import kill_tree

CHUNK = 256 * 1024
LISTENER_LIMIT = 1024 * 1024
PIECE_COST = 256  # what a queued piece weighs beyond its bytes, so that tiny ones count too
QUIET = 0.2  # seconds of silence after the exit before open pipes no longer hold back the end
LINGER = 5.0  # and the longest time that a talkative daemon can


class Listener:
    """One client's bounded queue of output."""

    def __init__(self, relieved: Callable[[], None]):
        self.relieved = relieved
        self.pieces: deque[tuple[str, bytes]] = deque()
        self.weight = 0
        self.closed = False
        self.changed = asyncio.Event()

    @property
    def full(self) -> bool:
        return self.weight >= LISTENER_LIMIT

    def push(self, stream: str, data: bytes) -> None:
        self.pieces.append((stream, data))
        self.weight += len(data) + PIECE_COST
        self.changed.set()

    def close(self) -> None:
        self.closed = True
        self.changed.set()

    async def take(self) -> tuple[str, bytes] | None:
        """The next output, small pieces of one stream joined; None after the last."""
        while not self.pieces:
            if self.closed:
                return None
            self.changed.clear()
            await self.changed.wait()
        stream, size = self.pieces[0][0], 0
        parts: list[bytes] = []
        while self.pieces and self.pieces[0][0] == stream and (not parts or size + len(self.pieces[0][1]) <= CHUNK):
            parts.append(self.pieces.popleft()[1])
            size += len(parts[-1])
            self.weight -= len(parts[-1]) + PIECE_COST
        self.relieved()
        return stream, parts[0] if len(parts) == 1 else b"".join(parts)


class Command:
    """A started command. `on_exit` and `on_close` are called when it has exited and when its last output is closed."""

    def __init__(
        self, child: subprocess.Popen[bytes], outputs: dict[FileIO, str], entry: FileIO | None, terminal: bool
    ):
        self.pid, self.child = child.pid, child
        self.outputs, self.entry, self.terminal = outputs, entry, terminal
        self.listeners: set[Listener] = set()
        self.exited = asyncio.Event()
        self.on_exit: Callable[[], None] = lambda: None
        self.on_close: Callable[[], None] = lambda: None
        self.paused = self.ended = False
        self.exit_time = 0.0
        self.end_timer: asyncio.TimerHandle | None = None
        self.deadline_timer: asyncio.TimerHandle | None = None
        self.entry_turn = asyncio.Lock()
        self.entry_wanted: asyncio.Future[None] | None = None
        self.loop = asyncio.get_running_loop()
        for file in [*outputs, *([entry] if entry else [])]:
            os.set_blocking(file.fileno(), False)
        self.pidfd = os.pidfd_open(self.pid)
        self.loop.add_reader(self.pidfd, self._exited)
        self._watch_outputs()

    def attach(self) -> Listener:
        listener = Listener(self._relieved)
        if self.ended:
            listener.close()
        else:
            self.listeners.add(listener)
        return listener

    def detach(self, listener: Listener) -> None:
        self.listeners.discard(listener)
        self._relieved()

    def kill(self) -> None:
        kill_tree(self.pid)

    def kill_after(self, seconds: float) -> None:
        """The command's own deadline: it holds whether or not a client is still there."""
        self.deadline_timer = self.loop.call_later(seconds, self.kill)

    def terminate(self) -> None:
        if not self.exited.is_set():
            os.killpg(self.pid, signal.SIGTERM)

    def resize(self, columns: int, rows: int) -> None:
        if not self.terminal or self.entry is None:
            raise RpcError("failed_precondition", f"Process {self.pid} has no terminal to resize")
        pty.resize(self.entry.fileno(), columns, rows)

    async def write(self, data: bytes) -> None:
        """Hand input to the command, in order, as fast as it reads."""
        async with self.entry_turn:
            rest = memoryview(data)
            while rest:
                if self.entry is None:
                    raise RpcError("failed_precondition", f"The input of process {self.pid} is closed")
                try:
                    rest = rest[self.entry.write(rest) or 0 :]
                except OSError:
                    self._close_entry()
                    continue
                if rest:
                    await self._entry_ready(self.entry)

    async def end_input(self) -> None:
        if self.terminal:
            raise RpcError("failed_precondition", "A terminal's input cannot be closed. Send Ctrl+D (\\x04) instead.")
        async with self.entry_turn:
            self._close_entry()

    def outcome(self) -> dict[str, object]:
        """How it ended, in the words and numbers of envd: an exit by signal has the code -1."""
        code = self.child.returncode
        cause = "" if code >= 0 else signal.strsignal(-code) or str(-code)
        status = f"signal: {cause.lower()}" if cause else f"exit status {code}"
        end = {"exitCode": max(code, -1), "exited": code >= 0, "status": status}
        return end if code == 0 else {**end, "error": status}

    def close(self) -> None:
        """Let go of everything, listeners included. The processes are not touched."""
        for file in list(self.outputs):
            self._close_output(file)
        self._end()

    def _read(self, file: FileIO) -> None:
        try:
            data = file.read(CHUNK)
        except OSError:  # a terminal whose other side is closed says EIO
            data = b""
        if data is None:
            return
        if not data:
            self._close_output(file)
            return
        for listener in self.listeners:
            listener.push(self.outputs[file], data)
        if any(listener.full for listener in self.listeners):
            self._pause()
        elif self.exited.is_set() and not self.ended:
            self._await_quiet()

    def _watch_outputs(self) -> None:
        for file in self.outputs:
            self.loop.add_reader(file, self._read, file)

    def _pause(self) -> None:
        self.paused = True
        if self.end_timer:
            self.end_timer.cancel()
        for file in self.outputs:
            self.loop.remove_reader(file)

    def _relieved(self) -> None:
        if self.paused and not any(listener.full for listener in self.listeners):
            self.paused = False
            self._watch_outputs()
            if self.exited.is_set() and not self.ended:
                self._await_quiet()

    def _close_output(self, file: FileIO) -> None:
        self.loop.remove_reader(file)
        del self.outputs[file]
        file.close()
        if self.exited.is_set() and not self.outputs:
            self._end()
            self.on_close()

    def _exited(self) -> None:
        self.loop.remove_reader(self.pidfd)
        os.close(self.pidfd)
        self.child.wait()
        self.exit_time = self.loop.time()
        self.exited.set()
        if self.deadline_timer:
            self.deadline_timer.cancel()
        self.on_exit()
        if not self.outputs:
            self._end()
            self.on_close()
        elif not self.paused:
            self._await_quiet()

    def _await_quiet(self) -> None:
        """End soon. The loop serves files before timers, so what the command left in its pipes still comes first."""
        if self.end_timer:
            self.end_timer.cancel()
        left = self.exit_time + LINGER - self.loop.time()
        self.end_timer = self.loop.call_later(max(0.0, min(QUIET, left)), self._end)

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self.end_timer:
            self.end_timer.cancel()
        self._close_entry()
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()
        self._relieved()

    def _close_entry(self) -> None:
        if self.entry is not None:
            if self.entry_wanted:
                self._entry_free()
            self.entry.close()
            self.entry = None

    async def _entry_ready(self, entry: FileIO) -> None:
        self.entry_wanted = self.loop.create_future()
        self.loop.add_writer(entry, self._entry_free)
        try:
            await self.entry_wanted
        finally:
            self._entry_free()

    def _entry_free(self) -> None:
        if self.entry_wanted and self.entry:
            self.loop.remove_writer(self.entry)
            if not self.entry_wanted.done():
                self.entry_wanted.set_result(None)
            self.entry_wanted = None


def start_piped(argv: list[str], env: Mapping[str, str], cwd: Path, with_input: bool) -> Command:
    entry = subprocess.PIPE if with_input else subprocess.DEVNULL
    child = spawn(argv, argv[0], env, cwd, entry, subprocess.PIPE, subprocess.PIPE)
    outputs = {raw(child.stdout): "stdout", raw(child.stderr): "stderr"}
    for file in outputs:
        try:
            fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, CHUNK)
        except OSError:
            pass  # the user's share of pipe memory is used up: smaller pipes work as well
    return Command(child, outputs, raw(child.stdin) if with_input else None, terminal=False)


def raw(file: IO[bytes] | None) -> FileIO:
    """An unbuffered pipe of Popen as what it is."""
    assert isinstance(file, FileIO)
    return file


def start_in_terminal(argv: list[str], env: Mapping[str, str], cwd: Path, columns: int, rows: int) -> Command:
    program = str(cwd / argv[0]) if "/" in argv[0] else argv[0]
    if shutil.which(program, path=env.get("PATH", os.defpath)) is None:
        raise RpcError("invalid_argument", f"Cannot start '{argv[0]}': there is no such program")
    ours, theirs = pty.open_terminal(columns, rows)
    screen = FileIO(ours, "rb")
    try:
        child = spawn(pty.adopting(theirs, argv), argv[0], env, cwd, theirs, theirs, theirs)
    except RpcError:
        screen.close()
        raise
    finally:
        os.close(theirs)
    return Command(child, {screen: "pty"}, FileIO(os.dup(ours), "wb"), terminal=True)


def spawn(
    argv: list[str], name: str, env: Mapping[str, str], cwd: Path, stdin: int, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """A process that leads a session of its own, or an error that says why not."""
    if not os.path.isdir(cwd):
        raise RpcError("invalid_argument", f"The working directory '{cwd}' does not exist or is not a directory")
    if not os.access(cwd, os.X_OK):
        raise RpcError("invalid_argument", f"The working directory '{cwd}' may not be entered")
    try:
        return subprocess.Popen(
            argv, 0, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, start_new_session=True
        )
    except FileNotFoundError:
        raise RpcError("invalid_argument", f"Cannot start '{name}': there is no such program") from None
    except BlockingIOError:
        raise RpcError("resource_exhausted", f"Cannot start '{name}': the sandbox has too many processes") from None
    except (OSError, ValueError) as error:
        raise RpcError("invalid_argument", f"Cannot start '{name}': {getattr(error, 'strerror', error)}") from None
