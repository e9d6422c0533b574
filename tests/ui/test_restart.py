"""A run survives the server: whoever looks finds it going on, and a server that is stopped leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from agent.__main__ import main
from agent.errors import UserError
from agent.events import Event
from agent.store import Store
from agent.ui.server import place
from tests.agent.scripted_server import ScriptedServer, code
from tests.agent.talking import until

from .conftest import Serve
from .serving import ENDS, free_port

SLOW = code("import time\nkept = 41\nprint('begun', flush=True)\ntime.sleep(600)")


class Process:
    """`python -m agent ui` as a person starts it."""

    def __init__(self, home: Path, model: str, port: int, folder: Path):
        told = {"MODELSMITH_HOME": str(home), "MODELSMITH_SANDBOX": "embedded", "MODELSMITH_MODEL": model}
        path = f"{Path(__file__).parents[2]}:{os.environ.get('PYTHONPATH', '')}"
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "agent", "ui", "--port", str(port)]
        self.process = subprocess.Popen(command, env={**os.environ, **told, "PYTHONPATH": path}, cwd=folder)
        until(lambda: answers(self.url) or self.process.poll() is not None, 60)
        assert self.process.poll() is None
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/x/me", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_turn_goes_on_in_the_next_server(own_home: Path, work_folder: Path, how: signal.Signals) -> None:
    def answer(messages: list[dict]) -> str:
        said = str(messages)
        if "kept + 1" in said:
            return "done"
        return code("final_answer(kept + 1)") if "restarted in the middle" in said else SLOW

    with ScriptedServer(answer) as model:
        port = free_port()
        first = Process(own_home, model.url, port, work_folder)
        id = first.client.post("/x/sessions").json()["id"]
        first.client.post(f"/x/sessions/{id}/tasks", json={"text": "count"})
        until(lambda: "output" in [event.type for event in events(own_home, id)])
        code_ = first.end(how)
        assert code_ == (-signal.SIGKILL if how == signal.SIGKILL else 0)
        seen = events(own_home, id)[-1].seq
        second = Process(own_home, model.url, port, work_folder)
        try:
            until(lambda: states(own_home, id)[-1] == "succeeded", 60)
            told = events(own_home, id)
            assert [one.seq for one in told] == list(range(1, len(told) + 1)) and told[-1].seq > seen
            assert "lost" in states(own_home, id)
            assert "".join(one.data["text"] for one in told if one.type == "answer").strip("`\njson") == "42"
            assert len([one for one in told if one.type == "task"]) == 2
            row = second.client.get("/x/sessions").json()[0]
            assert row["state"] == "succeeded" and row["running"] is False
        finally:
            second.end(signal.SIGTERM)
    assert not children_of(second.process.pid) and not children_of(first.process.pid)


def events(home: Path, id: str) -> list[Event]:
    with Store.open(home) as store:
        return list(store.all(id))


def states(home: Path, id: str) -> list[str]:
    told = [one.data["state"] for one in events(home, id) if one.type == "state"]
    return [state for state in told if state in ENDS] or ["none"]


def children_of(pid: int) -> list[str]:
    told = (Path(f"/proc/{one}/stat") for one in os.listdir("/proc") if one.isdigit())
    return [str(path) for path in told if path.exists() and path.read_text().rpartition(")")[2].split()[1] == str(pid)]


def test_an_old_turn_of_a_terminal_is_left_to_the_terminal(serve: Serve) -> None:
    """Only what a server of the page was running is taken up by the next one."""
    page = serve()
    id = page.new()
    page.store.append(id, "task", {"text": "from a terminal"})
    page.store.append(id, "state", {"state": "running"})
    page.server.go_on()
    row = next(row for row in page.client.get("/x/sessions").json() if row["id"] == id)
    assert (row["state"], row["running"]) == ("lost", False)
    assert len(page.events(id, "task")) == 1


MISTAKES = [
    ["--host", "0.0.0.0"],
    ["--host", "192.0.2.1"],
    ["--host", "smith.example"],
    ["--share"],
    ["--auth", "/nonexistent"],
    ["--auth-header", "X-User", "--proxy", "nginx"],
    ["--auth", "x", "--auth-header", "y"],
]


@pytest.mark.parametrize("args", MISTAKES)
def test_without_a_door_no_other_machine_is_served(home: Path, args: list[str], capsys: pytest.CaptureFixture) -> None:
    try:
        assert main(["ui", *args]) == 2
    except SystemExit as usage:
        assert usage.code == 2
    assert "--auth" in capsys.readouterr().err or "--proxy" in str(args)


def test_the_page_is_served_without_torch(own_home: Path, work_folder: Path) -> None:
    script = (
        "import sys\nfrom tests.ui.serving import serving\nfrom pathlib import Path\n"
        f"with serving(Path({str(own_home)!r})) as page:\n"
        "    assert page.client.get('/').status_code == 200 and page.client.get('/x/runs').status_code == 200\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules)))"
    )
    path = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_place_where_nobody_can_listen_is_told_before_anything_is_built() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Cannot listen on 127.0.0.1:{port}: Address already in use"):
            place("127.0.0.1", port)
    assert place("127.0.0.1", port) == ("127.0.0.1", port)
    assert place("127.0.0.1", 0)[1] != 0
    with pytest.raises(UserError, match="Cannot assign requested address"):
        place("192.0.2.10", None)
