"""envd's `process.Process` service: commands and terminals, started, followed, fed and killed.

A client that leaves kills nothing: the command runs on and `Connect` follows it again, any number of clients at once.
The deadline of `Start` is the command's and kills its tree; the deadline of `Connect` ends only that stream.
"""

import asyncio
import base64
import binascii
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from .command import Command, Listener, start_in_terminal, start_piped
from .connect import RpcError, add_client_stream, add_server_stream, add_unary, timeout_of
from .state import Guest
from .wire import HttpError, Request, Router

KEEPALIVE = 50.0
KILL_WAIT = 2.0
SIGNALS = {"SIGNAL_SIGTERM": "term", "15": "term", "SIGNAL_SIGKILL": "kill", "9": "kill"}
DEFAULT_SIZE = (80, 24)
T = TypeVar("T")


def routes(router: Router, guest: Guest) -> "Processes":
    service = Processes(guest)
    add_server_stream(router, "/process.Process/Start", service.start)
    add_server_stream(router, "/process.Process/Connect", service.connect)
    add_unary(router, "/process.Process/List", service.list)
    add_unary(router, "/process.Process/Update", service.update)
    add_unary(router, "/process.Process/SendInput", service.send_input)
    add_unary(router, "/process.Process/CloseStdin", service.close_stdin)
    add_unary(router, "/process.Process/SendSignal", service.send_signal)
    add_client_stream(router, "/process.Process/StreamInput", service.stream_input)
    return service


class Processes:
    """The commands that run now, by pid, and those that ended but left somebody holding their output."""

    def __init__(self, guest: Guest):
        self.guest = guest
        self.running: dict[int, tuple[Command, dict[str, Any]]] = {}
        self.open: set[Command] = set()

    async def start(self, message: dict, request: Request) -> AsyncGenerator[dict, None]:
        try:
            self.guest.check_user(request)
        except HttpError as error:
            raise RpcError("unauthenticated", error.message) from None
        command = self.launch(message)
        limit = timeout_of(request)
        if limit is not None:
            command.kill_after(limit)
        events = follow(command, command.attach(), request)
        try:
            async for event in events:
                yield event
        except RpcError:
            command.kill()  # the deadline: dead before the client reads of it
            raise
        finally:
            await events.aclose()

    async def connect(self, message: dict, request: Request) -> AsyncGenerator[dict, None]:
        command = self.find(message)
        events = follow(command, command.attach(), request)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def list(self, message: dict, request: Request) -> dict:
        return {"processes": [info for _, info in self.running.values()]}

    async def update(self, message: dict, request: Request) -> dict:
        command = self.find(message)
        if size := size_of(part(message, "pty", dict)):
            command.resize(*size)
        return {}

    async def send_input(self, message: dict, request: Request) -> dict:
        await feed(self.find(message), part(message, "input", dict))
        return {}

    async def stream_input(self, messages: AsyncIterator[dict], request: Request) -> dict:
        command: Command | None = None
        async for message in messages:
            if "start" in message:
                command = self.find(part(message, "start", dict))
            elif "data" in message:
                if command is None:
                    raise RpcError("invalid_argument", "The first message of an input stream must name the process")
                await feed(command, part(part(message, "data", dict), "input", dict))
        return {}

    async def close_stdin(self, message: dict, request: Request) -> dict:
        await self.find(message).end_input()
        return {}

    async def send_signal(self, message: dict, request: Request) -> dict:
        command = self.find(message)
        match SIGNALS.get(str(message.get("signal"))):
            case "term":
                command.terminate()
            case "kill":
                command.kill()
                # The answer means that it is dead, so that a List sent next no longer shows it.
                with suppress(TimeoutError):
                    async with asyncio.timeout(KILL_WAIT):
                        await command.exited.wait()
            case _:
                raise RpcError("invalid_argument", "The signal must be SIGNAL_SIGTERM or SIGNAL_SIGKILL")
        return {}

    async def close(self) -> None:
        """Kill every command with its tree and let go of all."""
        for command in self.open:
            command.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_WAIT):
                for command in list(self.open):
                    await command.exited.wait()
        for command in list(self.open):
            command.close()

    def launch(self, message: dict) -> Command:
        config = part(message, "process", dict)
        name, args = part(config, "cmd", str), part(config, "args", list)
        if not name or not all(isinstance(arg, str) for arg in args):
            raise RpcError("invalid_argument", "process.cmd must be a program's name and process.args texts")
        envs, tag = part(config, "envs", dict), part(message, "tag", str)
        env = {**self.guest.envs, **{key: str(value) for key, value in envs.items()}}
        cwd = self.guest.resolve(part(config, "cwd", str))
        if message.get("pty") is not None:
            env.setdefault("TERM", "xterm-256color")
            size = size_of(part(message, "pty", dict)) or DEFAULT_SIZE
            command = start_in_terminal([name, *args], env, cwd, *size)
        else:
            command = start_piped([name, *args], env, cwd, message.get("stdin") is not False)
        info = {"pid": command.pid, "config": config, **({"tag": tag} if tag else {})}
        self.running[command.pid] = command, info
        self.open.add(command)
        command.on_exit = partial(self.forget, command.pid)
        command.on_close = lambda: self.open.discard(command)
        return command

    def forget(self, pid: int) -> None:
        self.running.pop(pid, None)

    def find(self, message: dict) -> Command:
        selector = part(message, "process", dict)
        pid, tag = selector.get("pid"), part(selector, "tag", str)
        if pid is None and not tag:
            raise RpcError("invalid_argument", "The request names no process: give its pid or its tag")
        for command, info in self.running.values():
            if command.pid == pid if pid is not None else info.get("tag") == tag:
                return command
        raise RpcError("not_found", f"There is no running process with {'tag' if pid is None else 'pid'} {pid or tag}")


async def follow(command: Command, listener: Listener, request: Request) -> AsyncGenerator[dict, None]:
    """The events of a command from now to its end, with a sign of life whenever nothing happened for long."""
    loop = asyncio.get_running_loop()
    limit = timeout_of(request)
    deadline = math.inf if limit is None else loop.time() + limit
    ping = request.headers.get("keepalive-ping-interval", "")
    interval = float(ping) if ping.isdigit() and int(ping) > 0 else KEEPALIVE
    try:
        yield {"event": {"start": {"pid": command.pid}}}
        while (now := loop.time()) < deadline:
            try:
                async with asyncio.timeout_at(min(deadline, now + interval)):
                    output = await listener.take()
            except TimeoutError:
                if loop.time() < deadline:
                    yield {"event": {"keepalive": {}}}
                continue
            if output is None:
                if loop.time() >= deadline:
                    break  # the deadline itself ended the command
                yield {"event": {"end": command.outcome()}}
                return
            stream, data = output
            yield {"event": {"data": {stream: base64.b64encode(data).decode("ascii")}}}
        raise RpcError("deadline_exceeded", f"Process {command.pid} did not end within {limit:g} seconds")
    finally:
        command.detach(listener)


async def feed(command: Command, given: dict) -> None:
    kind = "pty" if "pty" in given else "stdin"
    if command.terminal != (kind == "pty"):
        wanted = "'pty', it has a terminal" if command.terminal else "'stdin', it has no terminal"
        raise RpcError("failed_precondition", f"Process {command.pid} takes its input as {wanted}")
    text = part(given, kind, str).translate({ord("-"): "+", ord("_"): "/"})
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RpcError("invalid_argument", f"input.{kind} is not base64") from None
    await command.write(data)


def size_of(terminal: dict) -> tuple[int, int] | None:
    """Columns and rows, or None when no size is named."""
    size = part(terminal, "size", dict)
    columns, rows = part(size, "cols", int), part(size, "rows", int)
    if not 0 <= columns < 65536 or not 0 <= rows < 65536:
        raise RpcError("invalid_argument", f"A terminal cannot have {columns} columns and {rows} rows")
    return (columns, rows) if size else None


def part(message: dict, name: str, kind: type[T]) -> T:
    """A field of a message; protobuf's JSON leaves out what has its default value."""
    value = message.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise RpcError("invalid_argument", f"The field '{name}' must be {kind.__name__}, not {type(value).__name__}")
    return value
