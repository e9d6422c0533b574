"""The guest's file services on a loopback port, in a thread or a process of their own, and the SDK's clients."""

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from e2b.api.client_async import get_envd_api as get_async_api
from e2b.api.client_sync import get_envd_api
from e2b.connection_config import ConnectionConfig
from e2b.sandbox_async.filesystem.filesystem import Filesystem as AsyncFilesystem
from e2b.sandbox_sync.filesystem.filesystem import Filesystem
from packaging.version import Version

from agent.sandbox.embedded.guest import files, filesystem
from agent.sandbox.embedded.guest.state import Guest
from agent.sandbox.embedded.guest.wire import Connection, Reply, Request, Router

ENVD = Version("0.6.3")
ROOT = Path(__file__).parent.parent.parent


class Server:
    """Answers until `stop` is called from any thread."""

    def __init__(self, home: Path):
        self.home, self.port = home, 0
        self.loop, self.ready = asyncio.new_event_loop(), threading.Event()

    def run(self) -> None:
        self.loop.run_until_complete(self.serve())
        self.loop.close()

    async def serve(self) -> None:
        self.stopped, connections = asyncio.Event(), set()
        router, guest = Router(), Guest(home=self.home)
        files.routes(router, guest)
        self.watchers = filesystem.routes(router, guest)

        async def health(request: Request) -> Reply:
            return Reply(204)

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(task := asyncio.current_task())
            task.add_done_callback(connections.discard)
            with suppress(asyncio.CancelledError):
                await Connection(reader, writer).serve(router)

        router.add("GET", "/health", health)
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.stopped.wait()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        self.watchers.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def served(home: Path) -> Iterator[Server]:
    server = Server(home)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.ready.wait(10)
    try:
        yield server
    finally:
        server.loop.call_soon_threadsafe(server.stopped.set)
        thread.join(10)


@contextmanager
def served_by_a_process(home: Path) -> Iterator[tuple[str, int]]:
    """The service's URL and its process id."""
    with subprocess.Popen(
        [sys.executable, "-m", __spec__.name, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.kill()


def config(url: str) -> ConnectionConfig:
    return ConnectionConfig(sandbox_url=url)


def client(url: str) -> Filesystem:
    return Filesystem(url, ENVD, config(url), get_envd_api(config(url), url))


def async_client(url: str) -> AsyncFilesystem:
    return AsyncFilesystem(url, ENVD, config(url), get_async_api(config(url), url))


def plain(url: str) -> httpx.Client:
    """A client that sends what the SDK would not."""
    return httpx.Client(base_url=url, timeout=20)


if __name__ == "__main__":
    logging.basicConfig()
    server = Server(Path(sys.argv[1]))

    def tell() -> None:
        server.ready.wait()
        print(server.url, flush=True)

    threading.Thread(target=tell).start()
    server.run()
