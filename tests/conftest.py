"""What every test stands on: a home of its own, no account, no network to the Hub, the command line as a process."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Started in the background of a script we would inherit that Ctrl-C is ignored, and so would every process we test.
signal.signal(signal.SIGINT, signal.default_int_handler)
ACCOUNTS = ("E2B_API_KEY", "E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

# Libraries read these once, when they are imported.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_TOKEN_PATH": "/nonexistent/token", "OMP_NUM_THREADS": "1"}

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the person's own settings or accounts, unless it sets them itself."""
    for name in list(os.environ):
        if name.startswith("MODELSMITH_") or name in ACCOUNTS or name.upper() == "NO_PROXY":
            monkeypatch.delenv(name)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty MODELSMITH_HOME. Its path is short, because unix sockets below it must stay under 108 bytes, and open to
    other users, because jails run as one."""
    path = Path(tempfile.mkdtemp(prefix="smith-"))
    path.chmod(0o755)
    monkeypatch.setenv("MODELSMITH_HOME", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def cli(home: Path) -> Cli:
    """`python -m agent …` as a process of its own, in the test's home."""

    def run(*args: str, **envs: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agent", *args]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, **envs}, capture_output=True, text=True, timeout=100, check=False
        )

    return run
