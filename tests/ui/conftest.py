"""One home folder and one sandbox server for all tests of the page; a server of the page for each test that asks."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent import toolbox
from tests.agent.conftest import end_server, new_home, own_home, shared_home  # noqa: F401
from tests.agent.scripted_server import ScriptedServer

from .chromium import chromium, visit  # noqa: F401
from .serving import Page, serving

Serve = Callable[..., Page]


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the person stands who started the server."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def only_test_tools(monkeypatch: pytest.MonkeyPatch, shared_home: Path) -> None:  # noqa: F811
    monkeypatch.setattr(toolbox, "MODULES", ["tests.agent.host_tools"])
    (shared_home / "acts.log").unlink(missing_ok=True)


@pytest.fixture
def serve(shared_home: Path) -> Iterator[Serve]:  # noqa: F811
    """`serve(answers, …)`: the page; with answers its model is a server that says them, else the recipes."""
    with ExitStack() as stack:

        def start(answers: Any = None, **options: Any) -> Page:
            if answers is not None:
                options["model"] = stack.enter_context(ScriptedServer(answers)).url
            return stack.enter_context(serving(shared_home, **options))

        yield start
