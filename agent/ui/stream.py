"""The events of one session over a WebSocket: what came after a number, then whatever comes, in order, each once.

A viewer is one loop that reads the store from where it stands, so a slow one costs a page of rows and nobody else
waits for it. Long texts are sent as their two ends; the whole is had from `GET …/events/{seq}`.
"""

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from agent.events import Event
from agent.ui.asking import Refusal, owned

if TYPE_CHECKING:
    from agent.ui.server import Server

PAGE = 500
LONG = 4_000  # characters of a text that are sent whole
PATIENCE = 30.0  # seconds a viewer may take for one page
NOT_ALLOWED, GONE, TOO_SLOW = 1008, 4404, 1013
log = logging.getLogger(__name__)


async def follow(server: "Server", socket: WebSocket) -> None:
    person = server.door.who(socket)
    if person is None:
        return await socket.close(NOT_ALLOWED)
    told = socket.query_params.get("after", "0")
    if not (told.isascii() and told.isdigit() and len(told) < 16):
        return await socket.close(NOT_ALLOWED)
    try:
        id = (await asyncio.to_thread(owned, server, person, socket.path_params["id"])).id
    except Refusal:
        await socket.accept()  # a browser is told a close code only on an open socket
        return await socket.close(GONE)
    await socket.accept()
    work = asyncio.create_task(send(server, socket, id, int(told)))
    gone = asyncio.create_task(left(socket))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        work.cancel()
        done = await asyncio.gather(work, gone, return_exceptions=True)
    if isinstance(done[0], Exception) and not isinstance(done[0], WebSocketDisconnect | RuntimeError):
        log.error("a viewer of %s was lost", id, exc_info=done[0])


async def left(socket: WebSocket) -> None:
    """Until the viewer goes; nothing it says is listened to."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def send(server: "Server", socket: WebSocket, id: str, after: int) -> None:
    live = False
    async for events in server.store.pages(id, after, PAGE):
        if events:
            after = events[-1].seq
            if not await put(socket, {"events": [shown(event) for event in events]}):
                return
        if not live and len(events) < PAGE:
            live = True
            if not await put(socket, {"live": True, "seq": after}):
                return
    await socket.close(GONE)  # deleted


async def put(socket: WebSocket, frame: dict[str, Any]) -> bool:
    try:
        text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
        await asyncio.wait_for(socket.send_text(text), PATIENCE)
        return True
    except TimeoutError:
        await socket.close(TOO_SLOW)
        return False


def shown(event: Event) -> dict[str, Any]:
    """An event as it is sent, with long texts cut."""
    data = event.data
    if event.type == "state" and "step" in (
        data.get("detail") or {}
    ):  # what a resumed session needs, all of it shown before
        data = {**data, "detail": {"step": {"final": data["detail"]["step"].get("final")}}}
    size = longest(data)
    if size > LONG:
        data = {**cut(data), "cut": {"characters": size}}
    return {"seq": event.seq, "at": round(event.at, 3), "type": event.type, "data": data}


def longest(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return max(map(longest, value.values()), default=0)
    if isinstance(value, list):
        return max(map(longest, value), default=0)
    return 0


def cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONG:
        return f"{value[: LONG // 2]}\n…\n{value[-LONG // 2 :]}"
    if isinstance(value, dict):
        return {name: cut(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [cut(inner) for inner in value]
    return value
