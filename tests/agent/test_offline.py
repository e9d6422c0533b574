"""`offline`: in a whole run, SDKs in our process included, nothing is connected to beyond loopback."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .conftest import ROOT
from .scripted_server import ScriptedServer, code

GUARD = """
import ipaddress, json, os, socket, sys
reached = []
def guard(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = arguments[1] if len(arguments) > 1 else None
        if isinstance(address, tuple):
            reached.append(["connect", address[0]])
            if event != "socket.bind" and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
                raise PermissionError(f"guard: {event} to {address}")
    elif event == "socket.getaddrinfo" and arguments[0]:
        reached.append(["name", str(arguments[0])])
sys.addaudithook(guard)
"""

RUN = """
from pathlib import Path
from agent import toolbox
from agent.policy import Mode
from agent.session import Session
from agent.settings import load_settings
from agent.store import Store
toolbox.MODULES += ["tests.agent.host_tools"]
home, model, task = sys.argv[1:]
settings = load_settings(home=home, sandbox="embedded", model=model, offline=True, max_usd=5)
with Store.open(settings.home) as store:
    session = Session.start(settings, store, mode=Mode.YES, attended=False, cwd=Path(home))
    outcome = session.run(task)
    session.executor.cleanup()
    session.close()
    results = [event.data for event in store.all(session.id) if event.type == "tool_result"]
sys.stdout.flush()
print(json.dumps({"state": outcome.state, "answer": outcome.answer, "reason": outcome.reason, "reached": reached,
                  "results": results}), flush=True)
os._exit(0)
"""

TOOLS = """
told = {}
for name, arguments in CALLS.items():
    try:
        told[name] = str(globals()[name](**arguments))[:300]
    except Exception as error:
        told[name] = f"{type(error).__name__}: {error}"
final_answer(told)
"""
CALLS = {
    "search_hub": {"query": "qwen3"},
    "whoami": {},
    "search_papers": {"query": "attention"},
    "search_docs": {"query": "trainer"},
    "find_space": {"query": "translate"},
    "buy": {"item": "gpu"},
    "publish": {"name": "model"},
}


def run(home: Path, model: str, task: str, **environment: str) -> dict:
    """A whole session in a process with a guard on its sockets. The Hub's own offline switch is left off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSMITH_"))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GUARD + RUN), str(home), model, task],
        cwd=ROOT,
        env={**kept, "HF_HOME": str(home / "hf"), **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def beyond(told: dict) -> list:
    here = {"127.0.0.1", "::1", "localhost", "0.0.0.0"}
    return [where for where in told["reached"] if where[1] not in here]


def test_a_whole_run_with_network_tools_stays_on_loopback(own_home: Path) -> None:
    with ScriptedServer([code(f"CALLS = {CALLS!r}{TOOLS}")]) as server:
        told = run(own_home, server.url, "Ask everybody.", HF_TOKEN="hf_" + "A1" * 18)
    assert told["state"] == "succeeded", told
    assert beyond(told) == []
    assert ["connect", "127.0.0.1"] in told["reached"]  # the guard does see
    assert "--offline" in told["answer"]["buy"] and "--offline" in told["answer"]["publish"]
    assert not (own_home / "acts.log").exists()
    for name in ("search_hub", "search_papers", "search_docs", "find_space"):
        answer = told["answer"][name]
        if "is not defined" not in answer and "KeyError" not in answer:
            assert "ffline" in answer or "cache" in answer, (name, answer)
    assert "ffline" in json.dumps(told["answer"])


def test_the_model_chosen_by_itself_is_on_this_machine(own_home: Path) -> None:
    told = run(
        own_home, "auto", "What is one and one?", OLLAMA_HOST="http://192.0.2.1:11434", HF_TOKEN="hf_" + "A1" * 18
    )
    assert beyond(told) == [] and told["reached"]


@pytest.mark.parametrize("model", ["http://192.0.2.1:8000/v1", "hf/Qwen/Qwen3-8B"])
def test_a_model_elsewhere_is_refused(own_home: Path, model: str) -> None:
    from agent.errors import UserError
    from agent.models.resolve import resolve

    with pytest.raises(UserError, match="offline"):
        resolve(model, offline=True, hf_token="hf_x")


def test_the_guard_would_see_a_connection() -> None:
    attempt = """
import urllib.request
try:
    urllib.request.urlopen("http://192.0.2.1/", timeout=2)
except Exception as error:
    print(error, reached)
"""
    command, bare = [sys.executable, "-c", GUARD + attempt], {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, env=bare)
    assert "192.0.2.1" in done.stdout and "guard:" in done.stdout
