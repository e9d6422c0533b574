"""The guest's process service for tests: on a loopback port, in a thread, with raw calls beside the SDK's."""

import asyncio
import json
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from e2b.connection_config import ConnectionConfig
from packaging.version import Version

from agent.sandbox.embedded.guest import processes
from agent.sandbox.embedded.guest.state import Guest
from agent.sandbox.embedded.guest.wire import Connection, Router

ENVD = Version("0.6.3")


class Server:
    """The service on a loopback port, in a thread with a loop of its own."""

    def __init__(self, home: Path):
        self.home, self.port = home, 0
        self.loop = asyncio.new_event_loop()
        self.service: processes.Processes | None = None
        ready = threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.serve(ready),))
        self.thread.start()
        assert ready.wait(10)

    async def serve(self, ready: threading.Event) -> None:
        self.stop, connections = asyncio.Event(), set()
        envs = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "user", "FROM": "guest"}
        router = Router()
        self.service = processes.routes(router, Guest(home=self.home, envs=envs))

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(task := asyncio.current_task())
            task.add_done_callback(connections.discard)
            with suppress(asyncio.CancelledError):
                await Connection(reader, writer).serve(router)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self.stop.wait()
        await self.service.close()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.loop.close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, kind: type) -> Any:
        config = ConnectionConfig(sandbox_url=self.address, api_key="e2b_" + "0" * 40, api_url=self.address)
        return kind(self.address, config, ENVD, None)


def frame(message: dict) -> bytes:
    data = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(data)) + data


def open_stream(server: Server, rpc: str, message: dict, **headers: str) -> socket.socket:
    """A call as raw bytes, for what no well-behaved client does."""
    body = frame(message)
    head = {"Host": "x", "Content-Type": "application/connect+json", "Content-Length": len(body), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    connection = socket.create_connection(("127.0.0.1", server.port), 10)
    connection.sendall(f"POST /process.Process/{rpc} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    return connection


def bash(script: str) -> dict:
    return {"process": {"cmd": "/bin/bash", "args": ["-c", script]}}


def unary(server: Server, rpc: str, message: dict) -> bytes:
    body = json.dumps(message).encode()
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        head = f"POST /process.Process/{rpc} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def read_until(stream: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        part = stream.recv(65536)
        assert part, f"the stream ended before {mark!r}: {data[-300:]!r}"
        data += part
    return data
