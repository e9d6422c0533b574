"""The code interpreter's HTTP face: POST /execute, /contexts and /health, as the official clients call them.

An /execute answer is one JSON object a line and always ends with end_of_execution; an answer without it was cut.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from .contexts import END, Context
from .kernels import KernelDied, Launcher, deno_path
from .state import Guest
from .wire import HttpError, Reply, Request, Router
from .zygote import Zygote

KEEPALIVE = 5.0
WAITING_LINES = 16
BATCH = 256 * 1024
NAMES = {"py": "python", "python3": "python", "js": "javascript", "ts": "typescript", "sh": "bash"}
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PlainError(HttpError):
    """The interpreter's clients show an error's body as it is."""

    def reply(self) -> Reply:
        return Reply.text(self.message, self.status)


class Interpreter:
    def __init__(self, guest: Guest, zygote: Zygote):
        self.guest = guest
        self.launcher = Launcher(guest, zygote)
        self.contexts: dict[str, Context] = {}
        self.defaults: dict[str, Context] = {}

    async def start(self) -> None:
        """Have the default Python kernel ready before the first cell asks for it."""
        await self.default("python").live_kernel()

    async def set_envs(self, envs: dict[str, str]) -> None:
        """The sandbox's environment changed: running kernels take it over with their next cell."""
        for context in self.contexts.values():
            context.environ.update(envs)

    async def execute(self, request: Request) -> Reply:
        body = await read_object(request)
        code, env_vars = body.get("code"), variables(body.get("env_vars"))
        if not isinstance(code, str):
            raise PlainError(400, "The request has no code")
        context_id, language = body.get("context_id"), body.get("language")
        if context_id and language:
            raise PlainError(400, "Give either context_id or language, not both")
        context = self.find(context_id) if context_id else self.default(self.language(language))
        return Reply(200, {"content-type": "application/x-ndjson"}, answer(context, code, env_vars))

    async def create(self, request: Request) -> Reply:
        body = await read_object(request)
        cwd = self.guest.resolve(body.get("cwd") or str(self.guest.home))
        if not cwd.is_dir():
            raise PlainError(400, f"The directory {cwd} does not exist")
        context = self.add(self.language(body.get("language")), cwd)
        context.start()
        try:
            await context.live_kernel()
        except KernelDied as death:
            self.contexts.pop(context.id, None)
            raise PlainError(500, f"The kernel did not start: {death}") from None
        return Reply.json(context.told())

    async def list(self, request: Request) -> Reply:
        return Reply.json([context.told() for context in self.contexts.values()])

    async def remove(self, request: Request, id: str) -> Reply:
        context = self.find(id)
        del self.contexts[id]
        self.defaults = {language: other for language, other in self.defaults.items() if other is not context}
        context.remove()
        return Reply(204)

    async def restart(self, request: Request, id: str) -> Reply:
        context = self.find(id)
        context.restart()
        await context.live_kernel()
        return Reply.json(context.told())

    async def health(self, request: Request) -> Reply:
        return Reply.text("OK")

    def add(self, language: str, cwd: Any) -> Context:
        context = Context(self.launcher, language, cwd)
        self.contexts[context.id] = context
        return context

    def find(self, context_id: str) -> Context:
        if context_id not in self.contexts:
            raise PlainError(404, f"Context {context_id} not found")
        return self.contexts[context_id]

    def default(self, language: str) -> Context:
        if language not in self.defaults:
            self.defaults[language] = self.add(language, self.guest.home)
        return self.defaults[language]

    def language(self, named: str | None) -> str:
        language = (named or "python").lower()
        language = NAMES.get(language, language)
        if language in ("python", "bash"):
            return language
        if language in ("javascript", "typescript"):
            if deno_path(self.guest):
                return language
            raise PlainError(501, f"{language} needs Deno, which this sandbox does not have")
        if language in ("r", "java"):
            raise PlainError(501, f"This sandbox has no kernel for {language}; it runs python and bash")
        raise PlainError(400, f"Unknown language {named!r}; this sandbox runs python and bash")


async def answer(context: Context, code: str, env_vars: dict[str, str]) -> AsyncIterator[bytes]:
    lines: asyncio.Queue[dict] = asyncio.Queue(WAITING_LINES)
    cell = asyncio.create_task(context.run(code, env_vars, lines))
    cell.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        ended = False
        while not ended:
            line = await next_line(lines, cell)
            batch = [json.dumps(line)]
            size = len(batch[0])
            while not lines.empty() and size < BATCH:
                line = lines.get_nowait()
                batch.append(json.dumps(line))
                size += len(batch[-1])
            ended = line == END
            yield ("\n".join(batch) + "\n").encode()
    finally:
        cell.cancel()


async def next_line(lines: asyncio.Queue[dict], cell: asyncio.Task[None]) -> dict:
    try:
        async with asyncio.timeout(KEEPALIVE):
            return await lines.get()
    except TimeoutError:
        if cell.done() and lines.empty():
            await cell  # it failed without an end line: its exception cuts the answer
        return {"type": "keepalive"}


async def read_object(request: Request) -> dict:
    body = await request.json()
    if not isinstance(body, dict):
        raise PlainError(400, "The request body is not a JSON object")
    return body


def variables(given: Any) -> dict[str, str]:
    if not isinstance(given or {}, dict):
        raise PlainError(400, "env_vars is not an object")
    for name, value in (given or {}).items():
        if not VARIABLE.fullmatch(name) or not isinstance(value, str) or "\0" in value:
            raise PlainError(400, f"{name!r} cannot be an environment variable: a name and a text are needed")
    return given or {}


def routes(router: Router, guest: Guest, zygote: Zygote) -> Interpreter:
    interpreter = Interpreter(guest, zygote)
    router.add("POST", "/execute", interpreter.execute)
    router.add("GET", "/contexts", interpreter.list)
    router.add("POST", "/contexts", interpreter.create)
    router.add("DELETE", "/contexts/{id}", interpreter.remove)
    router.add("POST", "/contexts/{id}/restart", interpreter.restart)
    router.add("GET", "/health", interpreter.health)
    return interpreter
