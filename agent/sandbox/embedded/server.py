"""The embedded server as one process: start, sweep what an older one left, serve, leave without a trace.

One server per root folder (a lock sees to it). `server.json` in the root tells clients of the same person where it
listens and its key; it is readable by that person alone.
"""

import asyncio
import fcntl
import json
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .config import Config
from .edge import Edge
from .jail import Jail
from .limits import sweep
from .sandboxes import Sandboxes
from .wall import NothingSafe as NothingSafe
from .wall import choose

log = logging.getLogger(__name__)


class AlreadyServing(Exception):
    """Another server holds this root folder."""


class Server:
    """Use as an async context: inside it, the server answers at `url`."""

    def __init__(self, config: Config):
        self.config = config
        self.sockets = Path(tempfile.gettempdir(), config.mark)  # short: unix socket paths may have 107 bytes only
        self.kind = choose(config)
        self.sandboxes = Sandboxes(config, self.sockets, self.kind)
        self.edge = Edge(config, self.sandboxes)

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.config.host in ("0.0.0.0", "::") else self.config.host
        return f"http://{host}:{self.edge.port}"

    async def __aenter__(self) -> "Server":
        self.config.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lock = (self.config.root / "server.lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyServing(f"another server already uses {self.config.root}") from None
        if self.kind is not Jail:
            log.warning("%s: %s", self.kind.__name__, (self.kind.__doc__ or "").partition("\n")[0])
        self.kind.open_root(self.config.root)
        self.sweep()
        self.sandboxes.load()
        self.listener = await asyncio.start_server(self.edge.connected, self.config.host, self.config.port, limit=2**20)
        self.edge.port = self.listener.sockets[0].getsockname()[1]
        self.sandboxes.own_ports.add(self.edge.port)
        self.announce()
        self.watching = asyncio.ensure_future(self.sandboxes.watch_over.run())
        self.sandboxes.fill_pool()
        return self

    async def __aexit__(self, *_: Any) -> None:
        (self.config.root / "server.json").unlink(missing_ok=True)
        self.listener.close()
        await self.sandboxes.close()
        self.watching.cancel()
        shutil.rmtree(self.sockets, ignore_errors=True)
        self.lock.close()

    def sweep(self) -> None:
        """Sockets, cgroups and the folder of an older server that had no time to tidy up. Its jails ended with it."""
        shutil.rmtree(self.sockets, ignore_errors=True)
        self.sockets.mkdir(mode=0o711)
        sweep(f"{self.config.mark}-")

    def announce(self) -> None:
        file = self.config.root / "server.json"
        draft = file.with_suffix(".tmp")
        told = {
            "url": self.url,
            "key": self.config.key,
            "pid": os.getpid(),
            "started": time.time(),
            "by_hand": self.config.idle_exit is None,
            "terms": self.config.terms,
        }
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(told, out)
        draft.rename(file)

    async def until_idle(self, seconds: float) -> None:
        """Return once no sandbox has run, and none was asked for, during so many seconds."""
        while True:
            idle = time.monotonic() - self.sandboxes.last_used
            busy = any(sandbox.running for sandbox in self.sandboxes.all.values())
            if not busy and idle >= seconds:
                return
            await asyncio.sleep(max(1.0, 0 if busy else seconds - idle))


async def run(config: Config, ready: Callable[[Server], None]) -> None:
    """Serve until SIGINT or SIGTERM, or until idle when the config says so. `ready` is called once it answers."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with Server(config) as server:
        log.info("serving sandboxes from %s", config.root)
        ready(server)
        waits: list[asyncio.Future] = [asyncio.ensure_future(stop.wait())]
        if config.idle_exit is not None:
            waits.append(asyncio.ensure_future(server.until_idle(config.idle_exit)))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def serve(config: Config, ready: Callable[[Server], None]) -> None:
    """`run` as the main program. It must be the main thread: jails end with the thread that started them."""
    asyncio.run(run(config, ready))
