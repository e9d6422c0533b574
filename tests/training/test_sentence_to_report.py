"""From one sentence to a computed verdict, and a real training that is killed and goes on: tiny model, real scripts."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import sandboxed, served  # noqa: F401
from tests.conftest import ROOT
from tests.tiny_model import tiny_model
from tests.training.making import row_for, write_rows
from tests.training.test_runs import until
from tools.jobs.process import Process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ENVS = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}


def agent(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line where a person works, which is not where the program lies."""
    command = [sys.executable, "-m", "agent", *words]
    envs = {**os.environ, **ENVS}
    return subprocess.run(command, cwd=place, env=envs, capture_output=True, text=True, timeout=580, check=False)


def sums(path: Path, method: str, count: int = 240) -> Path:
    draw = random.Random(0)
    return write_rows(path, [row_for(method, draw.randrange(60), draw.randrange(60)) for _ in range(count)])


WISHES = {
    "sft": "fine-tune {} on {} for 6 epochs",
    "dpo": "fine-tune {} on {} with DPO for 20 steps",
    "kto": "KTO {} on {} for 20 steps",
    "grpo": "GRPO {} on {} for 4 steps with answers of 8 tokens",
    "sequence-classification": "train a classifier from {} on {} for 20 steps",
    "embeddings": "train embeddings from {} on {} for 20 steps",
}
UNSURE = {"grpo", "embeddings"}  # a model that knows nothing learns too little of these in so few steps


@pytest.mark.parametrize("method", WISHES)
def test_a_sentence_becomes_a_report_with_a_verdict(sandboxed: Path, tmp_path: Path, method: str) -> None:  # noqa: F811
    sums(tmp_path / "sums.jsonl", method)
    wish = WISHES[method].format(tiny_model(), "sums.jsonl")
    ended = agent(tmp_path, "run", wish, "--model", "recipes", "--yes", "--offline")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr
    page = (tmp_path / "training_reports" / f"{tiny_model().name}-sums-{method}.md").read_text()
    assert "State: **succeeded**" in page
    assert re.search(r"VERDICT: \*\*(WIN|MARGINAL%s)\*\*" % ("|NO EVIDENCE" if method in UNSURE else ""), page), page
    assert "![curves]" in page and (tmp_path / "training_reports" / f"{tiny_model().name}-sums-{method}.png").exists()
    if method == "sft":  # the others may be over before the first look
        assert "about" in ended.stdout and "tokens/s" in ended.stdout
    listed = json.loads(agent(tmp_path, "runs", "list", "--json").stdout)["rows"]
    assert [row[1] for row in listed] == ["succeeded"]
    result = json.loads(next((sandboxed / "runs").glob("*/result.json")).read_text())
    assert (Path(result["model"]) / "config.json").exists()


def test_the_demo_ends_with_a_win_that_can_be_seen(sandboxed: Path, tmp_path: Path) -> None:  # noqa: F811
    subprocess.run([sys.executable, ROOT / "examples" / "demo.py", tmp_path / "demo"], check=True, timeout=100)
    wish = re.search(r"^demo: WISH = (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert wish
    task = f"fine-tune demo/tiny-qwen3 on demo/phrases.jsonl {wish[1]}"
    ended = agent(tmp_path, "run", task, "--model", "recipes", "--yes", "--offline")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr
    page = (tmp_path / "training_reports" / "tiny-qwen3-phrases-sft.md").read_text()
    assert "VERDICT: **WIN** (judged by exact_match), exact_match" in page
    text = r"\s+```text\n([^`]*)\n```\s+"
    pattern = rf"\*\*reference\*\*{text}\*\*before\*\*{text}\*\*after\*\*{text}"
    samples = re.findall(pattern, page)
    assert samples and sum(wanted == said != before for wanted, before, said in samples) > len(samples) / 2


def test_a_training_killed_with_everything_goes_on_from_its_checkpoint(home: Path, tmp_path: Path) -> None:
    from tests.training.making import plan_for
    from tools.context import Context, inside
    from tools.preflight import preflight
    from tools.runs import start_run
    from tools.training import write_training_script

    data = sums(tmp_path / "sums.jsonl", "sft")
    hyper = {"max_steps": 300, "save_steps": 10, "eval_steps": 10}
    with inside(Context(home=home, folder=tmp_path, offline=True)):
        folder = Path(write_training_script(plan_for("sft", data, hyper=hyper), "one")["folder"])
        assert preflight("one")["passed"]
        job = json.loads((start_run("one") and folder / "job.json").read_text())
    until(lambda: list(folder.glob("checkpoints/checkpoint-*/trainer_state.json")), 200)
    for pid in Process.from_json(job["attempts"][0]["ref"]["where"]["process"]).members():
        os.kill(pid, signal.SIGKILL)
    shown = agent(tmp_path, "runs", "show", "one")
    assert shown.returncode == 1 and shown.stdout.startswith("lost")
    resumed = agent(tmp_path, "runs", "resume", "one", "--json")
    assert resumed.returncode == 0, resumed.stderr
    begun = json.loads((folder / "job.json").read_text())["attempts"][1]["from_step"]
    assert begun >= 10
    until(lambda: json.loads(agent(tmp_path, "runs", "show", "one", "--json").stdout)["step"] > begun, 200)
    assert agent(tmp_path, "runs", "cancel", "one").returncode == 0
    until(lambda: agent(tmp_path, "runs", "show", "one").stdout.startswith("cancelled"), 100)
    told = agent(tmp_path, "runs", "report", "one").stdout
    assert "from the beginning; lost at step" in told and f"from step {begun}; cancelled at step" in told
    kept = max(int(path.name.split("-")[1]) for path in folder.glob("checkpoints/checkpoint-*"))
    assert kept > begun  # the cancelled run left a newer checkpoint than it began with
