"""docs/sandbox.md does what it says: its programs run against the server as they stand, its settings are read."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agent.settings import load_settings
from tests.conftest import Cli

from .serving import ROOT, Served

PAGE = (ROOT / "docs" / "sandbox.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(2))
def test_the_python_programs_of_the_page_run(served: Served, number: int) -> None:
    programs = blocks("python")
    assert len(programs) == 2
    command = [sys.executable, "-c", programs[number]]
    ran = subprocess.run(command, env=served.environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ("1.4\n3 data.csv\n\n", "hello\n")[number]


def test_the_commands_of_the_page_run(served: Served, cli: Cli) -> None:
    lines = [line.partition("#")[0] for block in blocks("bash") for line in block.splitlines()]
    commands = [shlex.split(line)[3:] for line in lines if line.startswith("python -m agent")]
    tried = [words for words in commands if words[1] in ("status", "list", "kill", "template")]
    assert len(tried) == 4
    for words in tried:
        ran = cli(*words, MODELSMITH_HOME=str(served.home))
        assert ran.returncode == 0, ran.stderr


def test_the_settings_of_the_page_are_settings(home: Path) -> None:
    for text in blocks("toml"):
        (home / "config.toml").write_text(text)
        load_settings()
        assert tomllib.loads(text)
    named = set(re.findall(r"`(sandbox_\w+)`", PAGE))
    assert named <= set(type(load_settings()).model_fields) and len(named) > 4
