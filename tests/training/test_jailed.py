"""Scripts that nobody has vouched for are rehearsed and trained in a sandbox, and nowhere else."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.sandbox.daemon import running
from agent.sandbox.jail import SandboxJail
from agent.sandbox.manage import kill, listing
from agent.settings import Settings, load_settings
from tests.conftest import ROOT
from tests.training.making import as_if_good, plan_for, rows_for, until, write_rows, written
from tests.training.small_run import small_run
from tools import runs
from tools.context import Context, ToolError, inside
from tools.jobs.jailed import lent
from tools.jobs.trust import distrust
from tools.preflight import passed, preflight
from tools.running import record
from tools.training import write_training_script

PEEK = "import os, pathlib\nprint('SEES', os.path.exists({outside!r}), os.environ.get('HF_TOKEN'))\n"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield (made := load_settings(home=tmp_path_factory.mktemp("home"), sandbox="embedded", sandbox_pool=0))
    if server := running(made):
        os.kill(server.pid, signal.SIGTERM)


@pytest.fixture
def here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with inside(Context(settings.home, hf_token="hf_secret", jail=SandboxJail(settings), offline=True)) as context:
        yield context


def edited(home: Path, run: str, **hyper: object) -> Path:
    data = write_rows(home / "data" / "rows.jsonl", rows_for("sft"))
    folder = written(home, plan_for("sft", data, hyper=hyper), run)
    outside = home / "outside.txt"
    outside.write_text("not for its eyes")
    text = (folder / "train.py").read_text()
    (folder / "train.py").write_text(
        text.replace("import json\n", PEEK.format(outside=str(outside)) + "import json\n", 1)
    )
    return folder


def test_a_script_that_is_not_ours_works_in_a_sandbox(here: Context) -> None:
    folder = small_run(here.home, "small")
    as_if_good(folder)
    runs.start_run("small")
    now = until("small", lambda told: told["over"])
    assert (now["state"], now["step"], now["loss"]) == ("succeeded", 6, pytest.approx(2 / 6)), now
    assert (folder / "model").stat().st_uid == os.geteuid()
    assert record.job(folder)["jailed"] and distrust(folder)


def test_without_a_sandbox_it_is_not_run_at_all(here: Context) -> None:
    as_if_good(small_run(here.home, "nowhere"))
    with inside(Context(here.home)):
        with pytest.raises(ToolError, match="no sandbox here"):
            preflight("nowhere")
        as_if_good(here.home / "runs" / "nowhere")
        with pytest.raises(ToolError, match="not run on the host"):
            runs.start_run("nowhere")


@pytest.mark.parametrize("place", ["sessions.db", "sandbox/server.json", ".", "..", "runs/x/.ssh/key", "/"])
def test_a_plan_cannot_have_private_places_shown_to_its_script(place: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("sessions.db", "sandbox/server.json", "runs/x/.ssh/key", "runs/x/data.jsonl"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("private")
    folder = small_run(home, "one", dataset={"id": str(home / "runs/x/data.jsonl")})
    with inside(Context(home, folder=tmp_path)):
        assert home / "runs/x/data.jsonl" in lent(folder)
        plan = json.loads((folder / "plan.json").read_text())
        plan["dataset"]["id"] = str(home / place)
        (folder / "plan.json").write_text(json.dumps(plan))
        with pytest.raises(ToolError, match="is not shown to a script"):
            lent(folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_edited_script_is_rehearsed_and_trained_in_a_sandbox(here: Context) -> None:
    folder = edited(here.home, "edited")
    assert preflight("edited")["passed"], preflight("edited")
    assert passed("edited")
    runs.start_run("edited")
    now = until("edited", lambda told: told["over"])
    assert now["state"] == "succeeded", now
    log = (folder / "log.txt").read_text()
    assert "SEES False None" in log
    assert now["step"] == 4 and now["loss"] and list((folder / "model").glob("*.safetensors")), now
    assert (folder / "model").stat().st_uid == os.geteuid()


TESTED = """def to_rows(row):
    return [{"prompt": row["prompt"], "tests": "assert True"}]
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_reward_that_runs_what_the_model_writes_trains_in_a_sandbox(here: Context) -> None:
    data = write_rows(here.home / "data" / "code.jsonl", rows_for("grpo"))
    plan = plan_for("grpo", data, dataset={"id": str(data), "mapping": TESTED}, hyper={"max_steps": 2})
    with inside(here):
        folder = Path(write_training_script(plan, "coded", reward="code+format")["folder"])
        assert "model under training writes" in (distrust(folder) or "")
        assert preflight("coded")["passed"], preflight("coded")
        runs.start_run("coded")
        now = until("coded", lambda told: told["over"])
    assert now["state"] == "succeeded" and now["reward"] is not None, now
    assert now["verdict"]["changes"] and record.job(folder)["jailed"]
    assert "sandbox of its own" in (folder / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_goes_on_without_the_agent_and_stops_with_a_checkpoint(settings: Settings, here: Context) -> None:
    folder = edited(here.home, "alone", max_steps=4000, eval_steps=4000)
    assert preflight("alone")["passed"]
    call = [sys.executable, "-m", "agent", "tools", "call", "start_run", "run=alone", "--yes"]
    env = {
        **os.environ,
        "MODELSMITH_HOME": str(settings.home),
        "MODELSMITH_SANDBOX_POOL": "0",
        "MODELSMITH_OFFLINE": "1",
    }
    subprocess.run(call, cwd=ROOT, env=env | {"MODELSMITH_SANDBOX": "embedded"}, check=True, capture_output=True)
    until("alone", lambda told: told["step"] > 3)
    told = runs.cancel_run("alone")
    told = until("alone", lambda told: told["over"])
    assert told["state"] == "cancelled" and list((folder / "checkpoints").glob("checkpoint-*")), told
    step = told["step"]
    assert runs.resume_run("alone")["state"] in ("queued", "running")
    assert until("alone", lambda told: told["step"] > step)["state"] == "running"
    for row in listing(settings):
        kill(settings, row["id"])
    told = until("alone", lambda told: told["over"])
    assert (told["state"], told["reason"]) == ("lost", "its sandbox is gone")
