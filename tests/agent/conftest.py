"""One home folder and one sandbox server for all sessions of these tests; tests that break it take `own_home`."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent import toolbox

from . import host_tools
from .scripted_server import ScriptedServer
from .talking import Talk, open_talk, until

ROOT = Path(__file__).parents[2]


def new_home() -> Path:
    """Short, because unix sockets lie below it; open to others, because jails run as other users."""
    path = Path(tempfile.mkdtemp(prefix="smith-"))
    path.chmod(0o755)
    return path


def end_server(home: Path) -> None:
    """Stop the sandbox server of a home folder, if one runs, and wait until it is gone."""
    told = home / "sandbox" / "server.json"
    if told.exists():
        pid = json.loads(told.read_text())["pid"]
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        until(lambda: gone(pid), 30)


def gone(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # started by somebody else, or reaped already
        return not Path(f"/proc/{pid}").exists()


@pytest.fixture(scope="session")
def shared_home() -> Iterator[Path]:
    path = new_home()
    yield path
    end_server(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def own_home() -> Iterator[Path]:
    path = new_home()
    yield path
    end_server(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def only_our_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolbox, "MODULES", ["tests.agent.host_tools"])
    host_tools.started.clear()
    host_tools.together.reset()


Talking = Callable[..., Talk]


@pytest.fixture
def talk(shared_home: Path) -> Iterator[Talking]:
    """`talk(answers, mode="yes", …)`: a session whose model says these answers. Settings go in by name."""
    with ExitStack() as stack:
        yield opener(stack, shared_home)


@pytest.fixture
def talk_alone(own_home: Path) -> Iterator[Talking]:
    """The same with a home folder and a sandbox server of its own."""
    with ExitStack() as stack:
        yield opener(stack, own_home)


def opener(stack: ExitStack, home: Path) -> Talking:
    (home / "acts.log").unlink(missing_ok=True)

    def start(answers: Any, *, window: int = 32_768, **options: Any) -> Talk:
        server = stack.enter_context(ScriptedServer(answers, window))
        made = open_talk(home, server, **options)
        stack.callback(made.store.close)
        stack.callback(made.session.executor.cleanup)
        stack.callback(made.check_log)
        return made

    return start
