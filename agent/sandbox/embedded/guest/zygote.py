"""The fork server of kernels: a single-threaded process that has imported IPython once and forks a kernel on request.

`Zygote.start()` must run before the guest has a thread, an event loop or a zmq context; what it imports is shared
page by page between guest, zygote and kernels. It reports each kernel's end at once. Should it die, its kernels are
killed with it and a fresh one is started (a plain new process) for the next kernel.
"""

import asyncio
import contextlib
import gc
import importlib
import itertools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[len(__package__.split("."))])
LAUNCH = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).adopt(sys.argv[3])"
)
# What a kernel needs sooner or later in its start and first cell: imported once, here, it costs no kernel anything.
PRELOAD = ("ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.zmqshell", "ipykernel.debugger", "pdb", "subprocess")


@dataclass
class Process:
    """A process of the sandbox that the interpreter watches; `ended` holds its exit code, negative for a signal."""

    pid: int
    ended: asyncio.Future[int]

    def signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            if not self.ended.done():  # so young that it has no group of its own yet
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)


class Zygote:
    """The guest's end: asks for kernels and learns of their ends."""

    def __init__(self, channel: socket.socket, pid: int):
        self.channel, self.pid = channel, pid
        self.alive = True
        self.writer: asyncio.StreamWriter | None = None
        self.numbers = itertools.count(1)
        self.starting: dict[int, asyncio.Future[Process]] = {}
        self.running: dict[int, Process] = {}
        self.listener: asyncio.Task[None] | None = None

    @classmethod
    def start(cls) -> "Zygote":
        preload()
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                keep_only(theirs.fileno())
                serve(theirs)
            except BaseException:  # the guest's own program must never run on in here
                traceback.print_exc()
            finally:
                os._exit(0)
        theirs.close()
        return cls(ours, pid)

    async def spawn(self, request: dict) -> Process:
        """A new kernel process; `request` is what kernel_process.run takes."""
        if not self.alive:
            self.replace()
        if self.writer is None:
            reader, self.writer = await asyncio.open_connection(sock=self.channel)
            self.listener = asyncio.create_task(self.listen(reader, self.writer))
        number = next(self.numbers)
        started = self.starting[number] = asyncio.get_running_loop().create_future()
        self.writer.write(json.dumps({"number": number, "request": request}).encode() + b"\n")
        try:
            return await started
        finally:
            self.starting.pop(number, None)

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.report(json.loads(line))
        except ConnectionError:
            pass  # a killed zygote, as an end of file
        writer.close()
        self.lost()

    def report(self, event: dict) -> None:
        if "status" in event:
            process = self.running.pop(event["pid"], None)
            if process and not process.ended.done():
                process.ended.set_result(os.waitstatus_to_exitcode(event["status"]))
            return
        process = Process(event["pid"], asyncio.get_running_loop().create_future())
        self.running[process.pid] = process
        started = self.starting.get(event["number"])
        if started and not started.done():
            started.set_result(process)
        else:
            process.signal_group(signal.SIGKILL)  # nobody waits for it any more

    def lost(self) -> None:
        """The zygote has died: nobody would report its kernels' ends, so they end now."""
        self.alive, self.writer = False, None
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        for process in self.running.values():
            process.signal_group(signal.SIGKILL)
            if not process.ended.done():
                process.ended.set_result(-signal.SIGKILL)
        self.running.clear()
        for started in self.starting.values():
            if not started.done():
                started.set_exception(ConnectionResetError("the fork server of kernels died"))

    def replace(self) -> None:
        self.channel, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-I", "-c", LAUNCH, ROOT, __name__, str(theirs.fileno())]
            self.pid = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL).pid
        self.alive = True


def preload() -> None:
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # many megabytes for a debugger that no client of ours can speak to
    for name in PRELOAD:
        importlib.import_module(name)
    del sys.modules["debugpy"]
    from . import bash, kernel_process, startup  # noqa: F401

    gc.collect()
    gc.freeze()


def adopt(number: str) -> None:
    """Entry of a zygote that was started as a process of its own."""
    preload()
    serve(socket.socket(fileno=int(number)))


def keep_only(kept: int) -> None:
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def serve(channel: socket.socket) -> None:
    """The zygote's loop: fork on request, report ends; ends itself, and its kernels, with the guest."""
    wake, waker = socket.socketpair()
    wake.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children: set[int] = set()
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if wake in ready:
                wake.recv(4096)
                report_ends(channel, children)
            if channel in ready:
                data = channel.recv(65536)
                if not data:
                    break
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    order = json.loads(line)
                    pid = fork_kernel(order["request"])
                    children.add(pid)
                    channel.sendall(json.dumps({"number": order["number"], "pid": pid}).encode() + b"\n")
                report_ends(channel, children)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def report_ends(channel: socket.socket, children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        channel.sendall(json.dumps({"pid": pid, "status": status}).encode() + b"\n")


def fork_kernel(request: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        from . import kernel_process

        kernel_process.run(request)
    except BaseException:  # whatever it was, a kernel must not become a second zygote
        traceback.print_exc()
    finally:
        os._exit(1)
