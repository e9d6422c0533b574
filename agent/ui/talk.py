"""Talk to the two ends of a run, base and result: a small local model in a process of its own, else a server by URL.

A process is kept for the next question and ends after a while without one; there are never more than two. A model that
does not fit into the memory that is free is not loaded: the answer says how to serve it.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from agent.doctor import GIB, available_memory
from agent.errors import UserError
from agent.models.errors import ModelError
from agent.models.resolve import resolve
from agent.settings import Settings
from agent.ui.asking import Ask, Refusal, route
from agent.ui.runs import folder_of, surroundings, within
from tools.running import record

if TYPE_CHECKING:
    from agent.ui.server import Server

SIDES = ("base", "result")
MOST = 2  # models in memory at a time
IDLE = 300.0  # seconds
LONGEST = 40_000  # characters of a conversation
ROOM = 1.5  # times the size of its files that a model may need
WEIGHTS = ("*.safetensors", "*.bin")


def routes(server: "Server") -> list[BaseRoute]:
    return [route(server, "/x/talk", post=within(talk))]


def talk(ask: Ask) -> Response:
    ask.path["run"] = ask.text("run", 100)
    side, messages = ask.text("side", 10), conversation(ask.body.get("messages"))
    if side not in SIDES:
        raise Refusal(422, f"The side is neither base nor result. Send one of {', '.join(SIDES)}.")
    settings = ask.server.settings_for(ask.person)
    if url := ask.text("url", 500, ""):
        if ask.person.name:
            raise Refusal(422, "A shared server opens no address for people. Ask for a model that it serves.")
        return streamed(by_url(url, settings, messages))
    path = model_of(ask, side)
    surroundings(settings, ask.server.work_folder(ask.person)).fence(path)
    check_room(path)
    return streamed(ask.server.talkers.ask(path, settings.offline, messages))


def conversation(told: Any) -> list[dict[str, str]]:
    if not isinstance(told, list) or not 0 < len(told) <= 200:
        raise Refusal(422, "'messages' is no conversation. Send a list of {role, content}.")
    for one in told:
        if not isinstance(one, dict) or one.get("role") not in ("system", "user", "assistant"):
            raise Refusal(422, "A message has no role. It is system, user or assistant.")
        if not isinstance(one.get("content"), str):
            raise Refusal(422, "A message has no text. Send its content as text.")
    if sum(len(one["content"]) for one in told) > LONGEST:
        raise Refusal(413, f"The conversation is longer than {LONGEST:,} characters. Begin a new one.")
    return [{"role": one["role"], "content": one["content"]} for one in told]


def model_of(ask: Ask, side: str) -> str:
    folder = folder_of(ask)
    if side == "base":
        base = (record.part(folder / "plan.json").get("model") or {}).get("id")
        if not base:
            raise Refusal(409, "The plan of this run names no model. There is nothing to talk to.")
        return str(base)
    result = record.part(folder / "result.json")
    told = result.get("model") or result.get("adapter")
    path = (folder / str(told)).resolve() if told else None
    if path is None or not path.is_dir() or not path.is_relative_to(folder.resolve()):
        raise Refusal(409, "This run left no model yet. Wait for its end, or look why it failed.")
    return str(path)


def check_room(path: str) -> None:
    """For a folder; what is on the Hub only tells its size when it is loaded."""
    files = [one for pattern in WEIGHTS for one in Path(path).glob(pattern)] if Path(path).is_dir() else []
    needed, free = ROOM * sum(one.stat().st_size for one in files), available_memory()
    if needed > free:
        raise Refusal(
            409,
            f"The model wants {needed / GIB:.1f} GiB and {free / GIB:.1f} are free. Serve it (vllm serve {path}) and "
            "give its URL.",
        )


def streamed(lines: Iterator[dict[str, Any]]) -> Response:
    pieces = (json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return StreamingResponse(pieces, media_type="application/x-ndjson", headers={"cache-control": "no-store"})


def by_url(url: str, settings: Settings, messages: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    key = settings.model_key.get_secret_value() if settings.model_key else None
    model = resolve(url, offline=settings.offline, api_key=key).model  # here, so that a wrong address is told at once

    def answer() -> Iterator[dict[str, Any]]:
        try:
            yield {"text": model.generate(list(messages), stop_at=None).text}
            yield {"done": True}
        except (ModelError, UserError) as error:
            yield {"error": str(error)}

    return answer()


class Talker:
    """One process with one model."""

    def __init__(self, path: str, offline: bool):
        command = [sys.executable, "-m", "agent.ui.talker", path, "offline" if offline else "online"]
        env = {name: value for name, value in os.environ.items() if "TOKEN" not in name and "KEY" not in name}
        env |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        self.lock = threading.Lock()
        self.used = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
            cwd=Path(__file__).parents[2],
        )

    def ask(self, messages: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
        """Who goes away in the middle of an answer ends the process: nobody else would stop it."""
        whole = False
        assert self.process.stdin and self.process.stdout
        try:
            with self.lock:
                self.process.stdin.write(json.dumps({"messages": messages}) + "\n")
                self.process.stdin.flush()
                for line in self.process.stdout:
                    told = json.loads(line)
                    if "ready" in told:
                        continue
                    whole = "done" in told or "error" in told
                    yield told
                    if whole:
                        return
            yield {"error": "The model's process ended. It may need more memory than there is; try a smaller one."}
        except (OSError, ValueError):
            yield {"error": "The model's process ended. Ask again to start it anew."}
        finally:
            self.used = time.monotonic()
            if not whole:
                self.end()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:  # what was not sent goes nowhere
                    pass


class Talkers:
    """All of them, by the model's path."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[str, Talker] = {}
        self.timer: threading.Timer | None = None

    def ask(self, path: str, offline: bool, messages: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
        with self.lock:
            self.known = {name: one for name, one in self.known.items() if one.process.poll() is None}
            talker = self.known.get(path)
            if talker is None:
                self.make_room()
                talker = self.known[path] = Talker(path, offline)
            self.watch()
        return talker.ask(messages)

    def make_room(self) -> None:
        while len(self.known) >= MOST:
            free = [name for name, one in self.known.items() if not one.lock.locked()]
            if not free:
                raise Refusal(409, f"{MOST} models are answering already. Wait for their end and ask again.")
            self.known.pop(min(free, key=lambda name: self.known[name].used)).end()

    def watch(self) -> None:
        """Ends those nobody talks to; alive only while there is one. Called with the lock held."""
        if self.timer is None and self.known:
            self.timer = threading.Timer(IDLE / 5, self.look)
            self.timer.daemon = True
            self.timer.start()

    def look(self) -> None:
        with self.lock:
            self.timer = None
            now = time.monotonic()
            for name, one in list(self.known.items()):
                if not one.lock.locked() and now - one.used > IDLE:
                    self.known.pop(name).end()
            self.watch()

    def close(self) -> None:
        with self.lock:
            if self.timer:
                self.timer.cancel()
            for one in self.known.values():
                one.end()
            self.known.clear()
