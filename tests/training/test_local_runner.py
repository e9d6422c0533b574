"""The local runner with real processes: what goes in, how each end is told, and what outlives its starter."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.jobs import JobRef, JobSpec, JobStatus
from tools.jobs.local import LocalRunner
from tools.jobs.process import Process

RUNNER = LocalRunner()
Submit = Callable[..., JobRef]


@pytest.fixture
def submit(tmp_path: Path) -> Iterator[Submit]:
    """`submit("python code")`; whatever still runs at the end of the test is killed."""
    started: list[JobRef] = []

    def run(code: str, *args: str, timeout_s: float = 60, **more: object) -> JobRef:
        command = [sys.executable, "-u", "-c", code, *args]
        started.append(RUNNER.submit(JobSpec(command, tmp_path, timeout_s, **more)))  # type: ignore[arg-type]
        return started[-1]

    yield run
    for ref in started:
        kill(ref)


def kill(ref: JobRef) -> None:
    for pid in Process.from_json(ref.where["process"]).members():
        os.kill(pid, signal.SIGKILL)


def until(wanted: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def ended(ref: JobRef) -> JobStatus:
    until(lambda: RUNNER.status(ref).over)
    return RUNNER.status(ref)


def printed(ref: JobRef, text: str) -> None:
    until(lambda: text in "\n".join(RUNNER.logs(ref)))


def test_environment_secrets_and_arguments_arrive_and_lines_come_in_order(submit: Submit) -> None:
    code = (
        "import os, sys\nprint(os.environ['A'], len(os.environ['KEY']), *sys.argv[1:])\nfor n in range(300): print(n)"
    )
    ref = submit(code, "two words", "'q\"$HOME", env={"A": "1"}, secrets={"KEY": "velvet-otter"})
    lines = list(RUNNER.logs(ref, follow=True))
    assert lines == ["1 12 two words 'q\"$HOME", *map(str, range(300))]
    assert ended(ref) == JobStatus("succeeded", 0, "", ended(ref).started, ended(ref).ended)
    assert list(RUNNER.logs(ref, tail=2)) == ["298", "299"]


def test_a_secret_is_in_no_argument_and_no_file(submit: Submit, tmp_path: Path) -> None:
    ref = submit("import time; print('up'); time.sleep(60)", secrets={"KEY": "velvet-otter"})
    printed(ref, "up")
    for pid in Process.from_json(ref.where["process"]).members():
        assert b"velvet" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"velvet" in path.read_bytes()]
    assert "velvet" not in json.dumps(ref.to_json()) + repr(JobSpec(["x"], tmp_path, 1, secrets={"KEY": "velvet"}))


def test_the_accounts_of_whoever_starts_it_do_not_go_along(submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSMITH_MODEL_KEY", "velvet-otter")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "velvet-otter")
    ref = submit("import os; print(sum('velvet' in value for value in os.environ.values()))")
    assert list(RUNNER.logs(ref, follow=True)) == ["0"]


def test_exit_code_7_is_failed_with_7(submit: Submit) -> None:
    status = ended(submit("raise SystemExit(7)"))
    assert (status.state, status.exit_code) == ("failed", 7)


def test_a_command_that_is_not_there_has_failed(tmp_path: Path) -> None:
    status = ended(RUNNER.submit(JobSpec(["/no/such/program"], tmp_path, 10)))
    assert status.state == "failed" and status.exit_code == 127


def test_a_cancelled_job_can_save_first_and_is_cancelled(submit: Submit, tmp_path: Path) -> None:
    code = """
import signal, sys, time
def stop(number, frame):
    open("saved", "w").write("checkpoint"); sys.exit(0)
signal.signal(signal.SIGTERM, stop); print("up"); time.sleep(60)
"""
    ref = submit(code)
    printed(ref, "up")
    RUNNER.cancel(ref)
    assert ended(ref).state == "cancelled"
    assert (tmp_path / "saved").read_text() == "checkpoint"


def test_cancel_reaches_the_commands_own_children_and_kills_who_does_not_listen(submit: Submit) -> None:
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; print('child', flush=True); time.sleep(60)"])
print("up"); time.sleep(60)
"""
    ref = submit(code, grace_s=0.5)
    printed(ref, "up")
    printed(ref, "child")
    process = Process.from_json(ref.where["process"])
    assert len(process.members()) == 4
    RUNNER.cancel(ref)
    assert ended(ref).state == "cancelled" and process.members() == []


def test_cancel_at_once_after_the_start_is_not_missed(submit: Submit) -> None:
    ref = submit("import time; time.sleep(60)")
    RUNNER.cancel(ref)
    assert ended(ref).state == "cancelled"


def test_cancelling_what_is_over_changes_nothing(submit: Submit) -> None:
    ref = submit("pass")
    ended(ref)
    RUNNER.cancel(ref)
    assert RUNNER.status(ref).state == "succeeded"


def test_a_job_over_its_time_limit_has_failed_and_says_so(submit: Submit) -> None:
    status = ended(submit("import time; time.sleep(60)", timeout_s=1))
    assert (status.state, status.exit_code) == ("failed", 124) and "time limit of 1 seconds" in status.message


def test_a_killed_program_has_failed_and_a_killed_job_is_lost(submit: Submit) -> None:
    ref = submit("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (ended(ref).state, ended(ref).exit_code) == ("failed", 137) and "SIGKILL" in ended(ref).message
    other = submit("import time; print('on'); time.sleep(60)")
    printed(other, "on")
    kill(other)
    assert ended(other).state == "lost" and ended(other).exit_code is None


def test_a_job_whose_head_was_killed_still_runs_and_can_be_cancelled(submit: Submit) -> None:
    ref = submit("import time; print('up'); time.sleep(60)")
    printed(ref, "up")
    os.kill(ref.where["process"]["pid"], signal.SIGKILL)
    until(lambda: not Process.from_json(ref.where["process"]).alive())
    assert RUNNER.status(ref).state == "running"
    RUNNER.cancel(ref)
    assert ended(ref).state == "cancelled"


def test_another_process_of_the_same_number_is_not_taken_for_the_job(submit: Submit) -> None:
    ref = submit("import time; print('up'); time.sleep(60)")
    printed(ref, "up")
    for changed in ({"start": ref.where["process"]["start"] - 1}, {"boot": "another"}):
        where = {**ref.where, "process": {**ref.where["process"], **changed}}
        assert RUNNER.status(JobRef(ref.runner, ref.id, where)).state == "lost"


def test_a_job_outlives_the_killed_agent_and_is_found_again(tmp_path: Path) -> None:
    program = f'''
import json, os, signal, sys
from pathlib import Path
from tools.jobs import JobSpec
from tools.jobs.local import LocalRunner
code = """import os, time; print('up', flush=True)
while not os.path.exists('go'): time.sleep(0.05)
print('done')"""
ref = LocalRunner().submit(JobSpec([sys.executable, "-c", code], Path({str(tmp_path)!r}), 60))
print(json.dumps(ref.to_json()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
'''
    agent = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert agent.returncode == -signal.SIGKILL
    ref = JobRef.from_json(json.loads(agent.stdout))
    printed(ref, "up")
    assert RUNNER.status(ref).state == "running"
    (tmp_path / "go").touch()
    assert list(RUNNER.logs(ref, follow=True)) == ["up", "done"]
    assert ended(ref).state == "succeeded"


def test_a_job_without_a_time_limit_is_refused(tmp_path: Path) -> None:
    for limit in (0, float("inf")):
        with pytest.raises(ValueError, match="time limit"):
            JobSpec(["true"], tmp_path, limit)


def test_this_machine_is_on_offer_and_free() -> None:
    offer = RUNNER.offers()[0]
    assert offer.cpus >= 1 and offer.usd_per_hour == 0.0
