"""What a fork of the zygote becomes: an ipykernel that speaks the Jupyter protocol over ipc sockets.

Environment variables arrive as data in a request's metadata: `environ` stays (None removes), `env_vars` holds for that
one cell. `exit()` and `quit()` end the cell with KernelExit, on which the guest replaces the kernel.
"""

import contextlib
import os
import signal
import site
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import zmq
from ipykernel.iostream import IOPubThread
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from traitlets import Type
from traitlets.config import Config

from . import startup

ROOT = str(Path(__file__).resolve().parents[len(__package__.split("."))])
UNSENT_MESSAGES = 64


class KernelExit(BaseException):
    """exit() or quit() was called in a cell."""


class Shell(ZMQInteractiveShell):
    def ask_exit(self) -> None:
        raise KernelExit("exit() was called")

    def _tee(self, channel: str) -> Any:
        """IPython would keep every printed character for its history, for ever."""
        return contextlib.nullcontext()

    def system(self, command: str) -> None:
        """`!command`: in the kernel's own process group, its two streams kept apart, and an interrupt interrupts it."""
        self.user_ns["_exit_code"] = subprocess.call(self.var_expand(command, depth=1), shell=True, executable="bash")


class PythonKernel(IPythonKernel):
    shell_class = Type(Shell)

    def start(self) -> None:
        super().start()
        # A signal alone does not wake a loop that waits: without this an awaiting cell could not be interrupted.
        self.wake, self.waker = socket.socketpair()
        self.wake.setblocking(False)
        self.waker.setblocking(False)
        self.io_loop.add_handler(self.wake, self.woken, self.io_loop.READ)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)

    def woken(self, wake: socket.socket, events: int) -> None:
        wake.recv(4096)

    async def do_execute(self, code: str, silent: bool, *args: Any, cell_meta: dict | None = None, **rest: Any) -> dict:
        told = cell_meta or {}
        change_environ(told.get("environ") or {})
        before = change_environ(told.get("env_vars") or {})
        try:
            return await super().do_execute(code, silent, *args, **rest)
        finally:
            change_environ(before)


class App(IPKernelApp):
    """An ipykernel without heartbeat and connection file; its parent knows both its sockets and its death."""

    def init_connection_file(self) -> None:
        pass

    def write_connection_file(self, **rest: Any) -> None:
        pass

    def init_heartbeat(self) -> None:
        pass

    def log_connection_info(self) -> None:
        pass

    def init_iopub(self, context: zmq.Context) -> None:
        self.iopub_socket = context.socket(zmq.XPUB)
        self.iopub_socket.linger = 1000
        # Never drop: a full queue makes the sender wait, and a waiting sender holds up the cell that prints.
        self.iopub_socket.sndhwm = UNSENT_MESSAGES
        self.iopub_socket.setsockopt(zmq.XPUB_NODROP, 1)
        self.iopub_port = self._bind_socket(self.iopub_socket, self.iopub_port)
        self.configure_tornado_logger()
        self.iopub_thread = IOPubThread(self.iopub_socket, pipe=False, session=self.session)
        self.iopub_thread.start()
        self.iopub_socket = self.iopub_thread.background_socket


def change_environ(changes: dict[str, str | None]) -> dict[str, str | None]:
    """Apply them to this process; returns the changes that undo it."""
    before = {name: os.environ.get(name) for name in changes}
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return before


def run(request: dict) -> None:
    """Become the kernel that is asked for; returns when it has ended."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update({"IPYTHONDIR": request["ipython"], **request["environ"]})
    use_packages_of(Path(request["venv"]))
    sys.argv = ["kernel"]

    kernel_class: type = PythonKernel
    if request["language"] == "bash":
        from .bash import BashKernel

        kernel_class = BashKernel
    app = App.instance(
        kernel_class=kernel_class,
        transport="ipc",
        ip=request["sockets"],
        shell_port=1,
        iopub_port=2,
        stdin_port=3,
        control_port=4,
        outstream_class=f"{__package__}.streams.Stream",
        log_level=40,
        config=Config(
            Session={"key": request["key"].encode()},
            Kernel={"_execute_sleep": 0.0},
            HistoryManager={"enabled": False},
            InteractiveShell={"colors": "nocolor"},
        ),
    )
    app.initialize([])
    if app.shell is not None:
        startup.prepare(app.shell)
    app.start()


def use_packages_of(venv: Path) -> None:
    """Make the sandbox's own environment this process's: its packages come before those of the read-only one."""
    if ROOT in sys.path:
        sys.path.remove(ROOT)
    if "" not in sys.path:
        sys.path.insert(0, "")  # the working directory; the guest itself runs isolated, without it
    python = venv / "bin" / "python"
    if not python.exists():
        return
    sys.executable = str(python)
    sys.prefix = sys.exec_prefix = str(venv)
    packages = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    before = list(sys.path)
    site.addsitedir(str(packages))
    added = [entry for entry in sys.path if entry not in before]
    first = next((i for i, entry in enumerate(before) if entry.endswith("site-packages")), len(before))
    sys.path[:] = [*before[:first], *added, *before[first:]]
