"""One kernel as the guest sees it: a process, a channel for requests and one for what comes of them.

A request is followed until *its* idle. The kernel's death ends it at once, told by the process's parent and not by a
timeout. A kernel runs one request at a time; its owner sees to that.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import zmq
import zmq.asyncio
from jupyter_client.session import Session

from .state import Guest
from .zygote import Process, Zygote

GRACE = 3.0  # seconds an interrupted cell gets to end
NUDGE = 1.0  # an interrupt is repeated after so long: code may have swallowed the first
UNREAD = 16  # messages kept for a slow reader, before the kernel is made to wait
LAST_MESSAGES = 50  # ms of silence after which a dead kernel has nothing more to say
START_TIMEOUT = 30.0
RECONNECT = 2  # ms
log = logging.getLogger(__name__)


class KernelDied(Exception):
    """The process is gone; the text says how it ended."""


class Kernel:
    def __init__(self, process: Process, key: str, shell: str, iopub: str, passes_on: bool = False):
        self.process = process
        self.passes_on = passes_on  # it hands interrupts on to its children itself, when they are ready for them
        self.session = Session(key=key.encode())
        context = zmq.asyncio.Context.instance()
        self.shell, self.iopub = context.socket(zmq.DEALER), context.socket(zmq.SUB)
        for channel, address in ((self.shell, shell), (self.iopub, iopub)):
            channel.linger = 0
            channel.reconnect_ivl = RECONNECT
            channel.rcvhwm = UNREAD
            if channel is self.iopub:
                channel.subscribe(b"")
            channel.connect(address)
        self.inbox: asyncio.Queue[dict | None] = asyncio.Queue(UNREAD)
        self.current: str | None = None
        self.running, self.ready = asyncio.Event(), asyncio.Event()
        self.used = False
        self.fate: str | None = None  # why it is being ended, when that was decided here
        self.reader = asyncio.create_task(self.read())

    async def start(self) -> None:
        """Wait until the kernel's output channel stands."""
        ready = asyncio.create_task(self.ready.wait())
        awaited: set[asyncio.Future] = {ready, self.process.ended}
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        done: set = set()
        while not done and asyncio.get_running_loop().time() < deadline:
            self.session.send(self.shell, "kernel_info_request", {})  # some kernels speak only when asked
            done, _ = await asyncio.wait(awaited, timeout=NUDGE, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self.ready.is_set():
            if not self.process.ended.done():
                self.end(f"it did not start within {START_TIMEOUT:g} s")
            await self.process.ended
            raise KernelDied(self.epitaph())

    def send(self, code: str, metadata: dict) -> None:
        """Begin a cell; `messages` tells what comes of it."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        content |= {"allow_stdin": False, "stop_on_error": False}
        message = self.session.msg("execute_request", content, metadata=metadata)
        self.used = True
        self.running.clear()
        self.current = message["header"]["msg_id"]
        self.session.send(self.shell, message)

    async def messages(self) -> AsyncIterator[dict]:
        """What the current request sends, until its idle. May be left and taken up again."""
        while self.current:
            message = await self.inbox.get()
            if message is None:
                self.inbox.put_nowait(None)
                raise KernelDied(self.epitaph())
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                self.current = None
                return
            yield message

    async def interrupt(self) -> bool:
        """End the current request as Ctrl-C would; False when it does not give in."""
        nudging = asyncio.create_task(self.nudge())
        try:
            async with asyncio.timeout(GRACE):
                async for _ in self.messages():
                    pass
            return True
        except (TimeoutError, KernelDied):
            return False
        finally:
            nudging.cancel()

    async def nudge(self) -> None:
        await self.running.wait()  # before that the kernel would not take the signal for the cell's
        while True:
            if self.passes_on:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process.pid, signal.SIGINT)
            else:
                self.process.signal_group(signal.SIGINT)
            await asyncio.sleep(NUDGE)

    def end(self, reason: str) -> None:
        """Kill it, with what it started in its group."""
        self.fate = self.fate or reason
        self.process.signal_group(signal.SIGKILL)

    def epitaph(self) -> str:
        if self.fate:
            return self.fate
        code = self.process.ended.result()
        if code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name
        cause = ", as happens when the sandbox runs out of memory" if -code == signal.SIGKILL else ""
        return f"its process was killed by {name}{cause}"

    async def read(self) -> None:
        """Hand on what belongs to the current request and drop the rest, until the process has ended."""
        ended: asyncio.Future = self.process.ended
        while True:
            arrival: asyncio.Future = asyncio.ensure_future(self.iopub.recv_multipart())
            await asyncio.wait([arrival, ended], return_when=asyncio.FIRST_COMPLETED)
            if not arrival.done():
                await asyncio.wait([arrival], timeout=LAST_MESSAGES / 1000)
            if not arrival.done():
                arrival.cancel()
                break
            try:
                _, frames = self.session.feed_identities(arrival.result())
                message = self.session.deserialize(frames)
            except (ValueError, KeyError, TypeError) as error:
                log.warning("a kernel sent a message that is none: %s", error)
                continue
            self.ready.set()
            if self.current and message["parent_header"].get("msg_id") == self.current:
                if message["msg_type"] == "execute_input":
                    self.running.set()
                await self.inbox.put(message)
        self.process.signal_group(signal.SIGKILL)  # what it left behind
        self.shell.close()
        self.iopub.close()
        await self.inbox.put(None)


class Launcher:
    """Starts kernels: Python and bash as forks of the zygote, JavaScript through Deno where there is one."""

    def __init__(self, guest: Guest, zygote: Zygote):
        self.guest, self.zygote = guest, zygote
        self.count = 0

    async def launch(self, language: str, cwd: Path) -> Kernel:
        self.count += 1
        base = f"{self.guest.run}/k{self.count}"
        key = os.urandom(16).hex()
        if language in ("python", "bash"):
            kernel = await self.fork(language, cwd, base, key)
        else:
            kernel = await self.deno(cwd, base, key)
        try:
            await kernel.start()
        except asyncio.CancelledError:
            kernel.end("nobody waits for it any more")
            raise
        return kernel

    async def fork(self, language: str, cwd: Path, base: str, key: str) -> Kernel:
        request = {
            "language": language,
            "cwd": str(cwd),
            "environ": self.guest.envs,
            "sockets": base,
            "key": key,
            "ipython": f"{self.guest.run}/ipython",
            "venv": str(self.guest.home / ".venv"),
        }
        try:
            process = await self.zygote.spawn(request)
        except ConnectionError:
            process = await self.zygote.spawn(request)  # a fresh zygote
        return Kernel(process, key, f"ipc://{base}-1", f"ipc://{base}-2", passes_on=language == "bash")

    async def deno(self, cwd: Path, base: str, key: str) -> Kernel:
        ports = free_ports(5)
        names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
        connection = dict(zip(names, ports, strict=True)) | {"transport": "tcp", "ip": "127.0.0.1", "key": key}
        file = Path(f"{base}.json")
        file.write_text(json.dumps(connection | {"signature_scheme": "hmac-sha256", "kernel_name": "deno"}))
        started = await asyncio.create_subprocess_exec(
            deno_path(self.guest) or "deno",
            *("jupyter", "--kernel", "--conn", str(file)),
            cwd=cwd,
            env=self.guest.envs,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        process = Process(started.pid, asyncio.ensure_future(started.wait()))
        return Kernel(process, key, f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}")


def deno_path(guest: Guest) -> str | None:
    return shutil.which("deno", path=guest.envs.get("PATH"))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
