"""The sandboxes of one server: creating, finding, pausing, ending them; a warm pool; expiry at the timeout.

What must survive the server (a paused sandbox's files, metadata and tokens) lies in the sandbox's folder; memory never
does. A sandbox whose jail ends by itself is dead at once and answers as one that is gone.
"""

import asyncio
import functools
import json
import logging
import os
import secrets
import shutil
import socket
import string
import subprocess
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .allowed import default_hosts, pip_environment
from .config import Config
from .egress import Egress
from .guest.wire import HttpError
from .jail import Jail, Plan
from .lending import MARK, Lending
from .metrics import Metrics
from .rules import Rules
from .users import Users
from .watch import Watch

log = logging.getLogger(__name__)
ALPHABET = string.ascii_lowercase + string.digits
ENVD_VERSION = "0.6.3"
BUFFER = 1024 * 1024  # on the way to a guest: enough that neither side waits for the other's turn
DEFAULT_TEMPLATE = "code-interpreter-v1"


def new_id() -> str:
    return "i" + "".join(secrets.choice(ALPHABET) for _ in range(19))


def discard(folder: Path) -> None:
    """Remove a sandbox's folder, whatever its code made of it: folders closed to us, or nested beyond recursion."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        subprocess.run(["chmod", "-R", "u+rwX", str(folder)], capture_output=True)
        subprocess.run(["rm", "-rf", str(folder)], capture_output=True)


@dataclass
class Record:
    """What a sandbox is, apart from its running jail; this is what is kept on disk."""

    id: str
    uid: int | None
    template: str = DEFAULT_TEMPLATE
    metadata: dict[str, str] = field(default_factory=dict)
    envs: dict[str, str] = field(default_factory=dict)
    access_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    traffic_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    started_at: float = field(default_factory=time.time)
    end_at: float = 0.0
    state: str = "running"
    auto_pause: bool = False
    public_ports: bool = True
    network: dict[str, Any] = field(default_factory=dict)
    memory_lost: bool = False
    lent: dict[str, Any] | None = None  # a Lending


class Sandbox:
    """A record with its jail and its way out."""

    def __init__(self, record: Record, folder: Path, egress: Egress):
        self.record, self.folder, self.egress = record, folder, egress
        self.jail: Jail | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.metrics: Metrics | None = None

    @property
    def running(self) -> bool:
        return self.record.state == "running" and self.jail is not None

    @property
    def lending(self) -> Lending:
        return Lending.from_json(self.record.lent or {})

    def save(self) -> None:
        file = self.folder / "sandbox.json"
        draft = file.with_suffix(".tmp")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(asdict(self.record), out)
        draft.rename(file)


class Sandboxes:
    """All sandboxes of this server. Every method runs on the server's own event loop."""

    def __init__(self, config: Config, sockets: Path, kind: type[Jail] = Jail):
        self.config, self.sockets, self.kind = config, sockets, kind
        self.hosts = default_hosts(config.local_only) if config.allow is None else config.allow
        self.own_ports: set[int] = set()  # the server's, which no sandbox may reach through the proxy
        self.all: dict[str, Sandbox] = {}
        self.warm: deque[Sandbox] = deque()
        self.warming: set[asyncio.Task] = set()
        self.tasks: set[asyncio.Task] = set()
        self.watch_over = Watch()
        self.made: dict[str, str] = {}  # idempotency key -> sandbox id
        self.users = Users(config.first_uid, config.root)
        self.last_used = time.monotonic()
        self.closing = False

    @property
    def folder(self) -> Path:
        return self.config.root / "sandboxes"

    # -- beginning ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take up what an older server left: paused sandboxes stay, the others are gone with their jail."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in self.folder.iterdir():
            try:
                record = Record(**json.loads((folder / "sandbox.json").read_text()))
            except (OSError, ValueError, TypeError):
                record = None
            if record and record.state == "paused":
                self.all[record.id] = Sandbox(record, folder, self.new_egress(record))
                if record.uid is not None:
                    self.users.hold(record.uid)
            else:
                discard(folder)

    def fill_pool(self) -> None:
        while not self.closing and len(self.warm) + len(self.warming) < self.config.pool:
            task = asyncio.ensure_future(self.warm_one())
            self.warming.add(task)
            task.add_done_callback(self.warming.discard)

    async def warm_one(self) -> None:
        try:
            sandbox = await self.boot(Record(id=new_id(), uid=self.free_uid()))
        except HttpError as error:
            log.error("no warm sandbox: %s", error.message)
            return
        if self.closing:
            await self.end(sandbox)
        else:
            self.warm.append(sandbox)

    def free_uid(self) -> int | None:
        return self.users.take() if os.geteuid() == 0 else None

    # -- creating ----------------------------------------------------------------------------------------------------

    async def create(self, record: Record, timeout: float, key: str | None = None) -> Sandbox:
        if key and (known := self.all.get(self.made.get(key, ""))):
            return known
        if sum(s.running for s in self.all.values()) >= self.config.max_sandboxes:
            raise HttpError(429, f"{self.config.max_sandboxes} sandboxes are running, which is this server's maximum")
        sandbox = await self.claim(record)
        if key:
            self.made[key] = sandbox.record.id
        self.set_timeout(sandbox, timeout)
        self.fill_pool()
        return sandbox

    async def claim(self, record: Record) -> Sandbox:
        """A warm sandbox made to fit the record, or a new one."""
        if record.template.startswith(MARK):
            record.lent = self.lent(record.template)
        while self.warm and record.lent is None:
            sandbox = self.warm.popleft()
            if not sandbox.running:
                continue
            record.id, record.uid = sandbox.record.id, sandbox.record.uid
            sandbox.record = record
            sandbox.egress.set_rules(self.rules(record))
            break
        else:
            record.id, record.uid = new_id(), self.free_uid()
            sandbox = await self.boot(record)
        self.all[record.id] = sandbox
        record.started_at = time.time()
        if record.envs:
            await self.call(sandbox, "POST", "/init", {"envVars": record.envs})
        sandbox.save()
        return sandbox

    def lent(self, name: str) -> dict[str, Any]:
        lending = Lending.take(self.config.root, name)
        if lending is None:
            raise HttpError(404, f"Template {name} was not found")
        taken = {path for sandbox in self.all.values() for path in sandbox.lending.writable()}
        for path in lending.writable():
            if any(path.is_relative_to(one) or one.is_relative_to(path) for one in taken):
                raise HttpError(409, f"{path} is in another sandbox's hands")
        return lending.to_json()

    async def boot(self, record: Record) -> Sandbox:
        folder = self.folder / record.id
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        sandbox = Sandbox(record, folder, self.new_egress(record))
        await self.start_jail(sandbox)
        return sandbox

    async def start_jail(self, sandbox: Sandbox) -> None:
        record, lending = sandbox.record, sandbox.lending
        if record.uid is not None:
            await asyncio.to_thread(lending.own, record.uid, record.uid)
            lending = await asyncio.to_thread(lending.readable, record.uid, sandbox.folder / "lent")
        proxy = self.sockets / f"{record.id}.proxy"
        await sandbox.egress.listen(proxy, record.uid)
        plan = Plan(
            name=f"{self.config.mark}-{record.id}",
            folder=sandbox.folder,
            python=self.config.python,
            limits=lending.limited(self.config.limits),
            proxy_socket=proxy,
            shares=[*self.config.shares, *lending.shares],
            uid=record.uid,
        )
        guest_config = {"python": str(self.config.python), "envs": pip_environment()}
        started = await self.kind.start(plan, self.sockets / record.id, guest_config, sandbox.folder / "guest.log")
        sandbox.jail = started
        sandbox.metrics = Metrics(started)
        home = None if plan.image.exists() else plan.home
        tell = functools.partial(self.breached, sandbox)
        if record.uid is None:
            self.watch_over.add_tree(started.cage, started.process.pid, home, tell)
        else:  # without a pid namespace a program that daemonises leaves the tree
            self.watch_over.add_user(started.cage, record.uid, home, tell)
        self.later(self.watch(sandbox, started))
        try:
            await asyncio.wait_for(self.ready(sandbox), 30)
        except (TimeoutError, HttpError):
            words = self.last_words(sandbox)
            await self.end(sandbox)
            raise HttpError(500, f"The sandbox did not start: {words}") from None

    async def ready(self, sandbox: Sandbox) -> None:
        """The guest listens only once its first kernel runs; the socket itself exists from the start, so this waits
        for an answer, not for a time."""
        call = asyncio.ensure_future(self.call(sandbox, "GET", "/health"))
        assert sandbox.jail
        ended = asyncio.ensure_future(sandbox.jail.process.wait())
        await asyncio.wait([call, ended], return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            call.cancel()
            raise HttpError(500, "The jail ended while it started")
        ended.cancel()
        call.result()

    def new_egress(self, record: Record) -> Egress:
        return Egress(self.rules(record), name=record.id)

    def rules(self, record: Record) -> Rules:
        """The server's list is the ceiling; a sandbox's own wishes can only narrow it."""
        try:
            return Rules.build(self.hosts, record.network, self.own_ports, "sandbox_allow")
        except ValueError as error:
            raise HttpError(400, str(error)) from None

    # -- using -------------------------------------------------------------------------------------------------------

    def get(self, sandbox_id: str) -> Sandbox:
        sandbox = self.all.get(sandbox_id)
        if sandbox is None:
            raise HttpError(404, f"Sandbox {sandbox_id} was not found")
        return sandbox

    async def dial(self, sandbox: Sandbox, port: int) -> socket.socket:
        """A raw connection to a port of the sandbox, non-blocking."""
        if not sandbox.running:
            raise ConnectionError("the sandbox is not running")
        assert sandbox.jail
        up = socket.socket(socket.AF_UNIX)
        try:
            up.setblocking(False)
            up.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(up, str(sandbox.jail.socket_path))
            await loop.sock_sendall(up, f"{port}\n".encode())
        except BaseException:
            up.close()
            raise
        return up

    async def call(self, sandbox: Sandbox, method: str, path: str, body: dict | None = None) -> None:
        """One request of the host's own to the guest; anything but success is an error."""
        try:
            reader, writer = await asyncio.open_unix_connection(sock=await self.dial(sandbox, 49983))
            data = json.dumps(body or {}).encode()
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
            )
            writer.write(head.encode() + data)
            await writer.drain()
            answer = await reader.readline()
            writer.close()
        except OSError as error:
            raise HttpError(502, f"The sandbox does not answer: {error}") from None
        if answer.split()[1:2] not in ([b"200"], [b"204"]):
            raise HttpError(502, "The sandbox refused a request of its own server")

    def set_timeout(self, sandbox: Sandbox, seconds: float) -> None:
        seconds = max(0.0, min(seconds, self.config.max_timeout))
        if sandbox.expiry:
            sandbox.expiry.cancel()
        sandbox.record.end_at = time.time() + seconds
        loop = asyncio.get_running_loop()
        sandbox.expiry = loop.call_later(seconds, lambda: self.later(self.expire(sandbox)))
        sandbox.save()

    async def expire(self, sandbox: Sandbox) -> None:
        log.info("sandbox %s reached its timeout", sandbox.record.id)
        await (self.pause(sandbox) if sandbox.record.auto_pause else self.end(sandbox))

    async def pause(self, sandbox: Sandbox) -> None:
        """Files and metadata stay, memory does not: kernels and processes start anew on resume."""
        if not sandbox.running:
            raise HttpError(409, f"Sandbox {sandbox.record.id} is paused already")
        sandbox.record.state, sandbox.record.memory_lost = "paused", True
        sandbox.save()
        await self.stop_jail(sandbox)

    async def resume(self, sandbox: Sandbox) -> None:
        uid = sandbox.record.uid
        if uid is not None and uid not in self.users.held and not self.users.hold(uid):
            raise HttpError(503, f"Another sandbox server of this machine uses the user {uid} of this sandbox now")
        sandbox.record.state = "running"
        await self.start_jail(sandbox)
        if sandbox.record.envs:
            await self.call(sandbox, "POST", "/init", {"envVars": sandbox.record.envs})
        sandbox.save()

    # -- ending ------------------------------------------------------------------------------------------------------

    async def watch(self, sandbox: Sandbox, jail: Jail) -> None:
        """A jail that ends by itself takes its sandbox with it."""
        await jail.process.wait()
        if sandbox.jail is jail:
            log.warning("sandbox %s %s: %s", sandbox.record.id, jail.describe_end(), self.last_words(sandbox))
            await self.end(sandbox)

    @staticmethod
    def last_words(sandbox: Sandbox) -> str:
        with (sandbox.folder / "guest.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no word from the jail"

    def breached(self, sandbox: Sandbox, kind: str, used: int, cap: int) -> None:
        log.warning("sandbox %s is ended: %s at %d, its cap is %d", sandbox.record.id, kind, used, cap)
        self.later(self.end(sandbox))

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Start it and keep it alive, which asyncio does not."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def stop_jail(self, sandbox: Sandbox) -> None:
        jail, sandbox.jail = sandbox.jail, None
        if sandbox.expiry:
            sandbox.expiry.cancel()
        if sandbox.metrics:
            sandbox.metrics.stop()
        if jail:
            self.watch_over.remove(jail.cage)
            await jail.kill()
            if sandbox.record.uid is not None:
                await asyncio.to_thread(sandbox.lending.own, os.geteuid(), os.getegid())
        await sandbox.egress.close()

    async def end(self, sandbox: Sandbox) -> None:
        self.all.pop(sandbox.record.id, None)
        self.last_used = time.monotonic()
        await self.stop_jail(sandbox)
        await asyncio.to_thread(discard, sandbox.folder)
        if sandbox.record.uid is not None:
            self.users.free(sandbox.record.uid)

    async def close(self) -> None:
        """End every jail. Paused sandboxes stay on disk."""
        self.closing = True
        for task in list(self.warming):
            await asyncio.wait([task])
        for sandbox in [*self.warm, *self.all.values()]:
            if sandbox.running:
                await self.end(sandbox)
