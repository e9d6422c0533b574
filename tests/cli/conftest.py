"""A terminal for the command line: real processes on a pseudo-terminal, real sessions, one sandbox server for all."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.conftest import ROOT
from tests.sandbox.serving import Served, serving

# The command line with one tool more, which would cost money.
PROGRAM = """
import sys
from agent import toolbox
from agent.__main__ import main
toolbox.MODULES.append("tests.cli.renting")
sys.exit(main())
"""

Spawn = Callable[..., pexpect.spawn]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def sandboxed(served: Served, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose sessions open their sandboxes on the shared server; the recipes are the model."""
    for name in ("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_API_KEY"):
        monkeypatch.setenv(name, served.environment[name])
    monkeypatch.setenv("MODELSMITH_MODEL", "recipes")
    monkeypatch.setenv("TERM", "xterm-256color")
    return home


@pytest.fixture
def terminal(sandboxed: Path) -> Iterator[Spawn]:
    """`terminal("run", …)`: the command line on a terminal of its own."""
    started: list[pexpect.spawn] = []
    own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}  # it has its size

    def spawn(*args: str) -> pexpect.spawn:
        child = pexpect.spawn(
            sys.executable, ["-c", PROGRAM, *args], cwd=str(ROOT), env=own, encoding="utf-8",
            timeout=40, dimensions=(40, 110),
        )  # fmt: skip
        started.append(child)
        return child

    yield spawn
    for child in started:
        child.close(force=True)
