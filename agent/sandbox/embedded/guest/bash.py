"""The bash kernel: one bash for all cells, so that its directory, variables and functions stay.

bash runs as an interactive shell without a terminal: an interrupt then ends the cell and not the shell. Its output goes
straight to the kernel's file descriptors. A cell's exit status other than 0 is an error CommandFailed; `exit` ends the
shell, and a new one takes over.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ipykernel.kernelbase import Kernel

from .kernel_process import change_environ

# Names of ours start with __sandbox; pairs arrive NUL-separated, as data. A signal between fork and exec can leave a
# child that takes itself for the shell: it must not answer for it.
PRELUDE = r"""
PS1= PS2=; set +o history +H
__sandbox_end() {
    local status=${3-$?}
    [[ $BASHPID == "$$" ]] || exit 130
    echo "end $1 $status" >&"$2"
}
__sandbox_push() {
    local pair name; __sandbox_saved=()
    while IFS= read -r -d '' pair; do
        name=${pair%%=*}
        if [[ -v $name ]]; then __sandbox_saved+=("$name=${!name}"); else __sandbox_saved+=("$name"); fi
        if [[ $pair == *=* ]]; then export "$pair"; else unset -v "$pair"; fi
    done < "$1"
}
__sandbox_pop() {
    local pair
    for pair in "${__sandbox_saved[@]}"; do
        if [[ $pair == *=* ]]; then export "$pair"; else unset -v "$pair"; fi
    done
}
"""
PATIENCE = 0.15  # seconds until an interrupt is repeated: a child caught between fork and exec misses it
LAST_WORDS = 2.0  # seconds an interrupted shell gets in all


class Shell:
    """A running bash and the pipe on which it tells when a cell begins and how it ended."""

    def __init__(self, folder: str):
        self.prelude, self.cell, self.pairs = (f"{folder}-{name}" for name in ("prelude", "cell", "environ"))
        self.statuses, self.report = os.pipe()
        error = os.dup(2)
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # its complaint about the missing terminal
            pass_fds=(self.report, error),
        )
        assert self.process.stdin
        self.input = self.process.stdin
        self.gone = os.pidfd_open(self.process.pid)
        self.number = 0
        self.write(self.prelude, PRELUDE)
        self.tell(f"source {self.prelude}; exec 2>&{error} {error}>&-")
        os.close(error)
        os.close(self.report)  # ours; the number names bash's own from here on

    def write(self, path: str, text: str) -> None:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)

    def tell(self, lines: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # that it is gone is learned from its process
            os.write(self.input.fileno(), f"{lines}\n".encode())

    def push(self, pairs: Mapping[str, str | None], number: int) -> None:
        path = f"{self.pairs}{number}"
        self.write(path, "".join(f"{name}\0" if text is None else f"{name}={text}\0" for name, text in pairs.items()))
        self.tell(f"__sandbox_push {path}")

    def run(self, code: str, environ: dict[str, str | None], env_vars: dict[str, str], interrupts: int) -> int | None:
        """The cell's exit status; None when the shell itself has ended. A byte on `interrupts` interrupts the cell."""
        self.number += 1
        if environ:
            self.push(environ, 1)
        if env_vars:
            self.push(env_vars, 2)
        self.write(self.cell, code)
        # Two lines, of which an interrupt ends the first. A signal before "begin" could hit bash while it reads them.
        self.tell(
            f"echo begin {self.number} >&{self.report}; source {self.cell} </dev/null {self.report}>&-\n"
            f"__sandbox_end {self.number} {self.report}"
        )
        status = self.follow(interrupts)
        if env_vars and status is not None:
            self.tell("__sandbox_pop")
        return status

    def follow(self, interrupts: int) -> int | None:
        begun, wanted, told, sent, deadline = False, False, b"", False, 0.0
        while True:
            ready = select.select([self.statuses, self.gone, interrupts], [], [], PATIENCE if sent else None)[0]
            if interrupts in ready:
                os.read(interrupts, 64)
                wanted = True
            if self.statuses in ready and (data := os.read(self.statuses, 4096)):
                *lines, told = (told + data).split(b"\n")
                for line in lines:
                    word, number, *status = line.split()
                    if int(number) == self.number and word == b"end":
                        if sent:  # also for a child that was forked a moment after the first
                            os.killpg(0, signal.SIGINT)
                        return int(status[0])
                    begun = begun or int(number) == self.number
            elif self.gone in ready:
                self.process.wait()
                return None
            if wanted and begun and not sent:
                os.killpg(0, signal.SIGINT)
                sent, deadline = True, time.monotonic() + LAST_WORDS
            elif sent and not ready:
                os.killpg(0, signal.SIGINT)
                # It may have met the second line instead of the cell. An answer too many is known by its number.
                self.tell(f"\n__sandbox_end {self.number} {self.report} 130")
                if time.monotonic() > deadline:
                    self.process.kill()

    def close(self) -> None:
        self.input.close()
        os.close(self.statuses)
        os.close(self.gone)


class BashKernel(Kernel):
    implementation = "bash"
    implementation_version = "1"
    banner = "bash"
    language_info: ClassVar = {  # type: ignore[misc]
        "name": "bash",
        "mimetype": "text/x-sh",
        "file_extension": ".sh",
    }
    bash: Shell | None = None

    def set_parent(self, ident: Any, parent: dict, channel: str = "shell") -> None:
        super().set_parent(ident, parent, channel)
        if channel == "shell":
            for stream in (sys.stdout, sys.stderr):
                stream.set_parent(parent)  # type: ignore[union-attr]  # they are our own Streams

    async def do_execute(
        self,
        code: str,
        silent: bool,
        *args: Any,
        cell_meta: dict | None = None,
        **rest: Any,
    ) -> dict:
        told = cell_meta or {}
        environ = told.get("environ") or {}
        change_environ(environ)  # for the shell after this one
        wake, waker = os.pipe()
        interrupted = []

        def interrupt(number: int, frame: Any) -> None:
            interrupted.append(number)
            if len(interrupted) == 1:
                os.write(waker, b"i")

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            shell = self.bash = self.bash or Shell(self.parent.ip)  # type: ignore[union-attr]  # an IPKernelApp
            status = shell.run(code, environ, told.get("env_vars") or {}, wake)
        finally:
            signal.signal(signal.SIGINT, before)
            os.close(wake)
            os.close(waker)
        name = "KeyboardInterrupt" if interrupted else "CommandFailed"
        if status is None:
            return self.failed(name, self.renew(shell))
        if interrupted:
            return self.failed(name, "the cell was interrupted")
        if status:
            return self.failed(name, f"exit status {status}")
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}

    def renew(self, shell: Shell) -> str:
        code = shell.process.returncode
        end = f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        shell.close()
        self.bash = None
        return f"{end}: the shell ended, a new one without its variables takes over"

    def failed(self, name: str, value: str) -> dict:
        content = {"ename": name, "evalue": value, "traceback": [f"{name}: {value}"]}
        self.send_response(self.iopub_socket, "error", content)
        return {"status": "error", "execution_count": self.execution_count, **content}
