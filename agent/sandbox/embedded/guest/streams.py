"""A kernel's sys.stdout and sys.stderr: everything that reaches file descriptor 1 or 2 becomes output of the cell.

What child processes and C code wrote before a Python write is sent before it, text is never cut inside a character,
and a cell that prints faster than its reader reads is slowed down instead of filling the memory. What a process had
not yet sent when it is killed is lost (at most the last 50 ms).
"""

import codecs
import contextlib
import fcntl
import os
import select
import sys
import termios
import threading
from typing import Any

from ipykernel.iostream import OutStream

CHUNK = 64 * 1024
NOTHING = bytes(4)
PIPE_SIZE = 1024 * 1024


class Stream(OutStream):
    """An ipykernel stream with its own capture of the file descriptor below it."""

    flush_interval = 0.05

    def __init__(self, session: Any, pub_thread: Any, name: str, **options: Any):
        super().__init__(session, pub_thread, name, watchfd=False)
        self.descriptor = {"stdout": 1, "stderr": 2}[name]
        self.pipe, end = os.pipe()
        with contextlib.suppress(OSError):  # a user's total of pipe memory is limited
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        os.dup2(end, self.descriptor)
        os.close(end)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.draining = threading.RLock()
        self.unsent = 0
        self.sending = False
        self.parent: dict | None = None
        self.key: frozenset = frozenset()
        threading.Thread(target=self.watch, name=f"{name} capture", daemon=True).start()

    def fileno(self) -> int:
        return self.descriptor

    def watch(self) -> None:
        poll = select.poll()
        poll.register(self.pipe, select.POLLIN)
        while poll.poll():
            self.drain()
            self.slow_down()

    def drain(self) -> None:
        """Take over what is in the pipe now; what a child adds meanwhile is the next call's."""
        with self.draining:
            size = int.from_bytes(fcntl.ioctl(self.pipe, termios.FIONREAD, NOTHING), sys.byteorder)
            while size > 0:
                data = os.read(self.pipe, min(size, CHUNK))
                size -= len(data)
                self.append(self.decoder.decode(data))

    def append(self, text: str) -> None:
        parent = self.parent_header
        if parent is not self.parent:
            self.parent, self.key = parent, frozenset(parent.items())
        with self._buffer_lock:
            self._buffers[self.key].write(text)
        self.unsent += len(text)
        if not self._flush_pending:
            self._schedule_flush()

    def slow_down(self) -> None:
        if self.unsent > CHUNK:
            self.flush()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text)}")
        if not self._is_master_process():
            with open(self.descriptor, "w", encoding="utf-8", errors="replace", closefd=False) as pipe:
                pipe.write(text)  # a forked child has no channel of its own, but it has the pipe
            return len(text)
        self.drain()
        for start in range(0, len(text), CHUNK):
            self.append(text[start : start + CHUNK])
            self.slow_down()
        return len(text)

    def flush(self) -> None:
        if not self._is_master_process() or self.pub_thread is None:
            return
        self.drain()
        if not self._buffers and not self.sending:
            return
        if threading.current_thread() is self.pub_thread.thread:
            self._flush()
            return
        sent = threading.Event()
        self.pub_thread.schedule(self._flush)
        self.pub_thread.schedule(sent.set)
        sent.wait()

    def _flush(self) -> None:
        self.sending = (
            True  # set before the buffers empty: whoever finds them empty must know that they are not sent yet
        )
        self.unsent = 0
        super()._flush()
        self.sending = False
