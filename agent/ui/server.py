"""The server of the page: puts the parts together on Gradio's own app, serves until it is told to stop, ends clean.

One process. Gradio carries the frame; everything that is alive has a route of ours under /x/.
"""

import functools
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import BaseRoute, WebSocketRoute

from agent import doctor
from agent.errors import UserError
from agent.policy import Mode
from agent.settings import Settings
from agent.store import Store, StoreError
from agent.ui import about, assets, files, guard, people, runs, sessions, stream, talk
from agent.ui.live import Live
from agent.ui.people import Door, Person
from agent.ui.preferences import Preferences

# What Gradio reads from the environment must not open what was not asked for here.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_SSR_MODE": "False", "GRADIO_ALLOWED_PATHS": ""}
QUIET |= {"FORWARDED_ALLOW_IPS": ""}  # uvicorn believes nobody: the guard decides whose word counts
GO_ON = "The server was restarted in the middle of this. Look how far you came, and go on."
MOST_TIMES = 3  # in a row: a turn that brings down every server is left alone then
log = logging.getLogger(__name__)


@dataclass
class Server:
    """What every route stands on."""

    settings: Settings
    store: Store
    door: Door
    live: Live
    preferences: Preferences
    talkers: talk.Talkers

    @classmethod
    def build(cls, settings: Settings, store: Store, door: Door, mode: Mode = Mode.ASK) -> "Server":
        """`mode`: whether calls that cost are asked about, allowed within the budget, or refused."""
        return cls(settings, store, door, Live(store, settings.home, mode), Preferences(settings), talk.Talkers())

    def routes(self) -> list[BaseRoute]:
        """Our own come before Gradio's."""
        socket = WebSocketRoute("/x/sessions/{id}/events", functools.partial(stream.follow, self))
        parts = (sessions, files, about, runs, talk)
        return [*self.door.routes(), socket, *assets.routes(), *(one for part in parts for one in part.routes(self))]

    @functools.cached_property
    def notice(self) -> str:
        """What everybody must know before they begin: that code cannot run here, and what to do about it."""
        if self.settings.e2b_api_key or self.settings.sandbox == "e2b":
            return ""
        found = doctor.jail(self.settings)
        return f"Code cannot run here: {found.text}. Cure: {found.mend}." if found.state == "bad" else ""

    def settings_for(self, person: Person, id: str = "") -> Settings:
        """What a person's sessions run by: theirs, and for one session its own model."""
        changes = self.preferences.of(person)
        if id and (spec := self.preferences.model_of(id)):
            changes["model"] = spec
        return people.settings_for(self.settings, person, **changes)

    def work_folder(self, person: Person) -> Path:
        """Where a person's sessions stand: here for the one of this machine, else in a folder of their own."""
        if not person.name:
            return Path.cwd()
        folder = people.folder_of(self.settings, person) / "work"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def close(self) -> None:
        self.talkers.close()
        self.live.close()

    def go_on(self) -> None:
        """Take up what ran when the server before this one ended."""
        for id in self.live.interrupted():
            try:
                person = self.door.known(self.store.session(id).owner)
                told = [event.data["text"] for event in self.store.all(id) if event.type == "task"]
                if person is not None and told[-MOST_TIMES:] != [GO_ON] * MOST_TIMES:
                    self.live.start(id, self.settings_for(person, id), GO_ON)
            except (UserError, StoreError) as error:
                log.warning("%s could not be taken up again: %s", id, error)


def launch(server: Server, rules: guard.Rules, host: str, port: int | None, share: bool = False) -> Any:
    """Gradio's Blocks, served; returns when it answers."""
    host, port = place(host, port)
    os.environ.update(QUIET)
    from agent.ui import page

    knocked: list[guard.Guard] = []

    def watched(app: guard.App) -> guard.Guard:
        knocked.append(guard.Guard(app, rules, server.door.who))
        return knocked[-1]

    demo = page.build()
    try:
        demo.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            pwa=False,
            run_history=False,
            mcp_server=False,
            num_workers=0,
            enable_monitoring=False,
            footer_links=[],
            app_kwargs={
                "routes": server.routes(),
                "middleware": [Middleware(watched)],
                "openapi_url": None,
                "docs_url": None,
                "redoc_url": None,
            },
            **page.LOOK,
        )
    except OSError as error:
        raise UserError(f"The page cannot be served on {host}: {error} Choose another --port.") from None
    for one in knocked:
        one.started = True
        if demo.share_url:
            one.rules = replace(rules, hosts=rules.hosts | {guard.host_name(demo.share_url.partition("://")[2])})
    return demo


def place(host: str, port: int | None) -> tuple[str, int | None]:
    """Host and port as Gradio wants them. It tries a hundred ports and then tells of none why; the system knows at
    once."""
    try:
        family, *_, address = socket.getaddrinfo(host.strip("[]"), port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
            free = listener.getsockname()[1]
    except OSError as error:
        told = f"{host}:{port}" if port else host
        raise UserError(f"Cannot listen on {told}: {error.strerror}. Choose another --host or --port.") from None
    return f"[{address[0]}]" if family == socket.AF_INET6 else host, free if port == 0 else port


def wait(stop: threading.Event) -> None:
    """Until Ctrl-C or a polite kill; a second one ends the process at once."""

    def asked(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(
    server: Server,
    rules: guard.Rules,
    host: str,
    port: int | None,
    share: bool = False,
    told: Callable[[str], Any] = print,
    stop: threading.Event | None = None,
) -> None:
    """`told` hears where the page is. Sessions that the server before was running are taken up again."""
    demo = launch(server, rules, host, port, share)
    try:
        told(demo.local_url)
        server.go_on()
        wait(stop or threading.Event())
    finally:
        server.close()
        demo.close(verbose=False)
