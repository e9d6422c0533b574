"""The program inside each jail: serves envd (49983), the code interpreter (49999) and a relay to any other port.

It listens on one inherited socket; a connection's first line names the port that is meant. The host has authenticated
every connection before; nothing here grants more than code in the sandbox has anyway.
"""

import asyncio
import json
import logging
import os
import socket
import sys
from pathlib import Path

from .state import Guest
from .zygote import Zygote

ENVD, INTERPRETER = 49983, 49999
log = logging.getLogger("guest")


def main() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="guest: %(message)s")
    config = json.loads(os.environ.pop("GUEST"))
    guest = Guest(home=Path(config["home"]), run=Path(config["run"]), envs=environment(config))
    zygote = Zygote.start()  # before any loop or thread: kernels are forks of it
    asyncio.run(serve(config, guest, zygote))


def environment(config: dict) -> dict[str, str]:
    """The environment of everything the sandbox runs: complete, and nothing of the host's."""
    python = Path(config["python"])
    home = config["home"]
    paths = [f"{home}/.venv/bin", f"{home}/.local/bin", str(python.parent), "/usr/local/cuda/bin"]
    temporary = {"TMPDIR": os.environ["TMPDIR"]} if "TMPDIR" in os.environ else {}
    return {
        "HOME": home,
        "USER": "user",
        "LOGNAME": "user",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "PATH": ":".join([*paths, os.environ["PATH"]]),
        "E2B_SANDBOX": "true",
        **temporary,
        **config["envs"],
    }


async def serve(config: dict, guest: Guest, zygote: Zygote) -> None:
    from . import files, filesystem, interpreter, ports, processes, venv
    from .wire import Connection, Reply, Request, Router

    venv.make(guest.home)
    proxy = guest.run / "proxy.sock"
    if proxy.exists():
        await ports.forward(proxy)
        guest.envs.update(ports.proxy_environment())

    envd, code = Router(), Router()
    files.routes(envd, guest)
    filesystem.routes(envd, guest)
    processes.routes(envd, guest)
    kernels = interpreter.routes(code, guest, zygote)

    async def health(request: Request) -> Reply:
        return Reply(204)

    async def init(request: Request) -> Reply:
        """From the host alone: the creator's environment, once a warm sandbox has found its owner."""
        body = await request.json()
        guest.envs.update(body.get("envVars") or {})
        await kernels.set_envs(body.get("envVars") or {})
        return Reply(204)

    envd.add("GET", "/health", health)
    envd.add("POST", "/init", init)

    alive: set[asyncio.Task | None] = set()  # asyncio itself does not keep tasks alive

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        alive.add(task)
        try:
            port = int((await reader.readline()).strip() or 0)
            if port == ENVD:
                await Connection(reader, writer).serve(envd)
            elif port == INTERPRETER:
                await Connection(reader, writer).serve(code)
            else:
                await ports.relay_port(port, reader, writer)
        except (ConnectionError, ValueError):
            writer.close()
        finally:
            alive.discard(task)

    listener = socket.socket(fileno=config["listen"])
    listener.setblocking(False)
    server = await asyncio.start_unix_server(connected, sock=listener, limit=1024 * 1024)
    os.set_inheritable(listener.fileno(), False)
    asyncio.get_running_loop().add_reader(config["lifeline"], os._exit, 0)
    os.set_inheritable(config["lifeline"], False)
    await kernels.start()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    main()
