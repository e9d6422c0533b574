"""A real page server in the test's hands, on a loopback port: real Gradio, real routes, real sessions and sandboxes."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import websockets

from agent.settings import load_settings
from agent.store import Store
from agent.ui.guard import Rules
from agent.ui.people import Door, Local
from agent.ui.server import Server, launch
from tests.agent.talking import until

ENDS = ("succeeded", "failed", "cancelled", "limit", "lost")


class Page:
    def __init__(self, server: Server, url: str):
        self.server, self.store, self.url = server, server.store, url
        self.client = self.browser()

    def browser(self, **headers: str) -> httpx.Client:
        """Another browser: cookies of its own."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=60, headers=headers)

    def new(self, **options: Any) -> str:
        return self.client.post("/x/sessions", json={}, **options).json()["id"]

    def ask(self, id: str, text: str = "Do it.", **more: Any) -> httpx.Response:
        return self.client.post(f"/x/sessions/{id}/tasks", json={"text": text, **more})

    def events(self, id: str, *types: str) -> list[dict[str, Any]]:
        return [event.to_dict() for event in self.store.all(id) if not types or event.type in types]

    def ended(self, id: str, turns: int = 1, seconds: float = 40) -> str:
        """The state in which the last of so many turns ended, once the session is free again."""

        def over() -> str | None:
            ends = [one["data"]["state"] for one in self.events(id, "state") if one["data"]["state"] in ENDS]
            return ends[-1] if len(ends) >= turns and not self.server.live.running(id) else None

        return until(over, seconds)

    def waiting(self, id: str) -> dict[str, Any]:
        """The card of the question that is open."""

        def card() -> Any:
            records = {one["data"]["id"]: one["data"] for one in self.events(id, "approval")}
            return next((one["card"] for one in records.values() if one["decision"] == "ask"), None)

        return until(card)

    def follow(
        self, id: str, until: Callable[[dict[str, Any]], bool], after: int = 0, headers: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """The frames that a viewer gets, up to one that the test waits for."""
        address = f"{self.url.replace('http', 'ws')}/x/sessions/{id}/events?after={after}"

        async def read() -> list[dict[str, Any]]:
            frames = []
            async with websockets.connect(address, proxy=None, additional_headers=headers, max_size=None) as socket:
                async with asyncio.timeout(40):
                    while True:
                        frames.append(json.loads(await socket.recv()))
                        if until(frames[-1]):
                            return frames

        return asyncio.run(read())


def live(frame: dict[str, Any]) -> bool:
    return frame.get("live") is True


def over(frame: dict[str, Any]) -> bool:
    """The frame in which a turn ends."""
    return any(one["type"] == "state" and one["data"]["state"] in ENDS for one in frame.get("events", []))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(home: Path, door: Door | None = None, rules: Rules | None = None, **settings: Any) -> Iterator[Page]:
    made = load_settings(home=str(home), **{"sandbox": "embedded", "model": "recipes", **settings})
    with Store.open(made.home) as store:
        server = Server.build(made, store, door or Local())
        demo = launch(server, rules or Rules(), "127.0.0.1", free_port())
        try:
            yield Page(server, demo.local_url.rstrip("/"))
        finally:
            server.close()
            demo.close(verbose=False)
