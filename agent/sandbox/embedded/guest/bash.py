"""The bash kernel: one bash for all cells, so that its directory, variables and functions stay.

bash runs as an interactive shell without a terminal: an interrupt then ends the cell and not the shell. Its output goes
straight to the kernel's file descriptors. A cell's exit status other than 0 is an error CommandFailed; `exit` ends the
shell, and a new one takes over.
"""

import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

from ipykernel.kernelbase import Kernel

from .kernel_process import change_environ

# Names of ours start with __sandbox; pairs arrive NUL-separated, as data.
PRELUDE = r"""
PS1= PS2=; set +o history +H
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
LAST_WORDS = 2.0  # seconds an interrupted shell gets to report


class Shell:
    """A running bash and the pipe on which it tells each cell's exit status."""

    def __init__(self, folder: str):
        self.prelude, self.cell, self.pairs = (f"{folder}-{name}" for name in ("prelude", "cell", "environ"))
        self.statuses, status = os.pipe()
        error = os.dup(2)
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # its complaint about the missing terminal
            pass_fds=(status, error),
        )
        self.gone = os.pidfd_open(self.process.pid)
        self.write(self.prelude, PRELUDE)
        self.tell(f"source {self.prelude}; exec 2>&{error} {error}>&-")
        self.report = status  # the same number inside bash
        os.close(error)
        os.close(status)

    def write(self, path: str, text: str) -> None:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)

    def tell(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def run(self, code: str, environ: dict[str, str | None], env_vars: dict[str, str]) -> int | None:
        """The cell's exit status; None when the shell itself has ended, see `returncode`."""
        for pairs in (environ, env_vars):
            self.write(self.pairs, "".join(f"{k}\0" if v is None else f"{k}={v}\0" for k, v in pairs.items()))
            if pairs:
                self.tell(f"__sandbox_push {self.pairs}; echo 0 >&{self.report}")
                self.status()
        self.write(self.cell, code)
        # Two commands: an interrupt ends only the first. One write: the shell may be gone after the first.
        self.tell(f'source {self.cell} </dev/null {self.report}>&-\necho "$?" >&{self.report}')
        try:
            return self.status()
        finally:
            if env_vars and self.process.poll() is None:
                self.tell("__sandbox_pop")

    def status(self, timeout: float | None = None) -> int | None:
        ready = select.select([self.statuses, self.gone], [], [], timeout)[0]
        if not ready:
            raise TimeoutError("bash did not report")
        if self.statuses in ready and (told := os.read(self.statuses, 64)):
            return int(told.split()[-1])
        self.process.wait()
        return None

    def close(self) -> None:
        self.process.stdin.close()
        os.close(self.statuses)
        os.close(self.gone)


class BashKernel(Kernel):
    implementation = "bash"
    implementation_version = "1"
    banner = "bash"
    language_info = {"name": "bash", "mimetype": "text/x-sh", "file_extension": ".sh"}
    bash: Shell | None = None

    def set_parent(self, ident: Any, parent: dict, channel: str = "shell") -> None:
        super().set_parent(ident, parent, channel)
        if channel == "shell":
            for stream in (sys.stdout, sys.stderr):
                stream.set_parent(parent)

    async def do_execute(
        self, code: str, silent: bool, *args: Any, cell_meta: dict | None = None, cell_id: str | None = None, **rest: Any
    ) -> dict:
        told = cell_meta or {}
        environ = told.get("environ") or {}
        change_environ(environ)  # for the shell after this one
        shell = self.bash = self.bash or Shell(self.parent.ip)
        try:
            status = shell.run(code, environ, told.get("env_vars") or {})
        except KeyboardInterrupt:
            return self.failed(*self.interrupted(shell))
        if status is None:
            return self.failed("CommandFailed", self.renew(shell))
        if status:
            return self.failed("CommandFailed", f"exit status {status}")
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}

    def interrupted(self, shell: Shell) -> tuple[str, str]:
        """The signal went to the whole group: bash reports too, unless the cell holds it up."""
        deadline = time.monotonic() + LAST_WORDS
        while True:
            try:
                alive = shell.status(max(0.0, deadline - time.monotonic())) is not None
            except KeyboardInterrupt:
                continue
            except TimeoutError:
                shell.process.kill()
                shell.process.wait()
                alive = False
            return "KeyboardInterrupt", "the cell was interrupted" if alive else self.renew(shell)

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
