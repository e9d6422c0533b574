"""Base and result of a run side by side: each a model in a process of its own."""

import json
import shutil
from pathlib import Path

import pytest

from tests.agent.scripted_server import ScriptedServer
from tests.agent.talking import until
from tests.tiny_model import tiny_model

from .conftest import Serve
from .serving import Page
from .test_restart import children_of


@pytest.fixture
def run(shared_home: Path) -> Path:
    folder = shared_home / "runs" / "talking"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps({"method": "sft", "model": {"id": str(tiny_model())}}))
    return folder


def said(page: Page, **body: object) -> list[dict]:
    asked = {"run": "talking", "messages": [{"role": "user", "content": "What is 2 plus 3?"}], **body}
    answer = page.client.post("/x/talk", json=asked)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.slow
def test_both_sides_answer_from_processes_that_end_with_the_server(serve: Serve, run: Path) -> None:
    import os

    shutil.copytree(tiny_model(), run / "model", dirs_exist_ok=True)
    (run / "result.json").write_text(json.dumps({"model": "model"}))
    page = serve(offline=True)
    for side in ("base", "result"):
        told = said(page, side=side)
        assert told[-1]["done"] and "".join(one.get("text", "") for one in told)
    assert len(page.server.talkers.known) == 2
    pids = [one.process.pid for one in page.server.talkers.known.values()]
    assert set(pids) <= {int(path.split("/")[2]) for path in children_of(os.getpid())}
    page.server.talkers.close()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_what_there_is_nobody_to_talk_to_is_told(serve: Serve, run: Path) -> None:
    page = serve()
    asked = {"run": "talking", "side": "result", "messages": [{"role": "user", "content": "hi"}]}
    (run / "result.json").unlink(missing_ok=True)
    wrong = [
        (asked, 409),
        (asked | {"run": "none"}, 404),
        (asked | {"side": "left"}, 422),
        (asked | {"messages": []}, 422),
        (asked | {"messages": [{"role": "tool", "content": "x"}]}, 422),
        (asked | {"messages": [{"role": "user", "content": "x" * 50_000}]}, 413),
        (asked | {"url": "http://127.0.0.1:9/v1"}, 422),
    ]
    for body, status in wrong:
        assert page.client.post("/x/talk", json=body).status_code == status, body
    (run / "result.json").write_text(json.dumps({"model": "/etc"}))
    assert page.client.post("/x/talk", json=asked).status_code == 409


def test_a_model_too_large_for_the_memory_is_not_loaded(serve: Serve, run: Path) -> None:
    (run / "big").mkdir(exist_ok=True)
    with (run / "big" / "model.safetensors").open("wb") as file:
        file.truncate(2**42)
    (run / "result.json").write_text(json.dumps({"model": "big"}))
    page = serve()
    asked = {"run": "talking", "side": "result", "messages": [{"role": "user", "content": "hi"}]}
    answer = page.client.post("/x/talk", json=asked)
    assert answer.status_code == 409 and "vllm serve" in answer.json()["error"] and not page.server.talkers.known


def test_a_server_answers_where_it_is_given(serve: Serve, run: Path) -> None:
    page = serve()
    with ScriptedServer(["five"]) as model:
        assert said(page, side="base", url=model.url) == [{"text": "five"}, {"done": True}]
