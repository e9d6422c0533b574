"""A session in a process of its own, to be killed: every event that was acknowledged is told to the parent first."""

import json
import os
from pathlib import Path
from typing import Any

from agent import toolbox
from agent.policy import Mode
from agent.session import Session
from agent.settings import load_settings
from agent.store import Store


def run(home: str, url: str, session: str | None, task: str, acknowledged: str) -> None:
    """Exits with the outcome's code. What the store gave back goes, line by line, into the file `acknowledged`."""
    toolbox.MODULES = ["tests.agent.host_tools"]
    settings = load_settings(home=home, sandbox="embedded", model=url, max_usd=100)
    store = Store.open(settings.home)
    told = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    append_many = store.append_many

    def telling(name: str, items: Any) -> Any:
        events = append_many(name, items)
        os.write(told, "".join(f"{event.to_json()}\n" for event in events).encode())
        return events

    store.append_many = telling  # type: ignore[method-assign]
    mode = {"mode": Mode.YES, "attended": False}
    made = (
        Session.resume(settings, store, session, **mode)  # type: ignore[arg-type]
        if session
        else Session.start(settings, store, cwd=Path(home), **mode)  # type: ignore[arg-type]
    )
    outcome = made.run(task)
    made.executor.cleanup()
    made.close()
    os.write(told, f"{json.dumps({'outcome': outcome.state, 'answer': outcome.answer})}\n".encode())
    os._exit(outcome.exit_code)  # threads of cancelled tools are nobody's business here
