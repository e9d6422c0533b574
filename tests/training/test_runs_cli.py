"""`python -m agent runs …` as a person uses it: processes that know of a run only what lies on the disk."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli
from tests.training.small_run import small_run
from tests.training.test_runs import kill, until


@pytest.fixture
def runs(home: Path, cli: Cli) -> Iterator[Path]:
    yield home / "runs"
    for folder in (home / "runs").glob("*"):
        kill(folder)


def state(cli: Cli, run: str) -> str:
    return json.loads(cli("runs", "show", run, "--json").stdout)["state"]


def test_a_run_is_forced_followed_and_reported(home: Path, runs: Path, cli: Cli) -> None:
    small_run(home, "one")
    refused = cli("runs", "start", "one")
    assert refused.returncode == 2 and "not rehearsed" in refused.stderr and "--force" in refused.stderr
    assert cli("runs", "start", "one", "--force").returncode == 0
    followed = cli("runs", "logs", "one", "--follow")
    assert [line for line in followed.stdout.splitlines() if line.startswith("step")] == [
        f"step {n}" for n in range(1, 7)
    ]
    shown = cli("runs", "show", "one")
    assert (
        shown.stdout.startswith("succeeded  one: step 6 of 6")
        and "VERDICT: WIN (judged by exact_match), " in shown.stdout
    )
    assert "one" in cli("runs", "list").stdout
    assert json.loads(cli("runs", "list", "--json").stdout)["rows"][0][:2] == ["one", "succeeded"]
    report = cli("runs", "report", "one")
    assert report.stdout.startswith("# sft of ") and (runs / "one" / "report.md").exists()
    assert len(json.loads(cli("runs", "logs", "one", "--tail", "2", "--json").stdout)["lines"]) == 2


def test_a_run_started_by_a_process_that_is_gone_can_be_stopped_and_gone_on_with(
    home: Path, runs: Path, cli: Cli
) -> None:
    small_run(home, "one", stop_at=3)
    cli("runs", "start", "one", "--force")
    until(lambda: "step 3 of 6" in cli("runs", "show", "one").stdout)
    cancelled = cli("runs", "cancel", "one")
    assert cancelled.returncode == 0 and cancelled.stdout.startswith("cancelled")
    assert "never" not in cli("runs", "resume", "one", "--force").stderr
    until(lambda: state(cli, "one") == "succeeded")


def test_two_runs_are_compared(home: Path, runs: Path, cli: Cli) -> None:
    small_run(home, "one")
    small_run(home, "two", seed=7)
    compared = cli("runs", "compare", "one", "two").stdout
    assert "| plan: seed |  | 7 |" in compared and "| state | prepared | prepared |" in compared


def test_a_failed_run_is_exit_code_1_and_a_wrong_name_2(home: Path, runs: Path, cli: Cli) -> None:
    small_run(home, "one", stop_at=1, bad="memory")
    cli("runs", "start", "one", "--force")
    until(lambda: state(cli, "one") == "failed")
    shown = cli("runs", "show", "one")
    assert (
        shown.returncode == 1 and "What went wrong: out of memory" in shown.stdout and "cure: batch 2" in shown.stdout
    )
    assert cli("runs", "show", "nothing").returncode == 2
    assert cli("runs", "compare", "one").returncode == 2


def test_a_token_in_the_log_is_not_printed(home: Path, runs: Path, cli: Cli) -> None:
    folder = small_run(home, "one")
    (folder / "train.py").write_text("import os\nprint('the token is', os.environ['HF_TOKEN'])\nraise SystemExit(1)")
    cli("runs", "start", "one", "--force", HF_TOKEN="hf_velvetotterninetytwo")
    until(lambda: state(cli, "one") == "failed")
    for words in (["logs", "one"], ["show", "one"], ["report", "one"]):
        told = cli("runs", *words, HF_TOKEN="hf_velvetotterninetytwo").stdout
        assert "the token is" in told and "velvet" not in told
    assert b"velvet" not in (folder / "job.json").read_bytes() + (folder / "report.md").read_bytes()


def test_ctrl_c_ends_following_and_not_the_run(home: Path, runs: Path, cli: Cli) -> None:
    small_run(home, "one", stop_at=3)
    cli("runs", "start", "one", "--force")
    command = [sys.executable, "-m", "agent", "runs", "logs", "one", "--follow"]
    reader = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    assert reader.stdout
    next(line for line in reader.stdout if line.startswith("step 3"))
    reader.send_signal(signal.SIGINT)
    assert reader.wait(timeout=20) == 130
    assert state(cli, "one") == "running"
