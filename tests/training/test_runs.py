"""Runs from start to end, with a small script that behaves like a real one: watched, stopped, killed, gone on with."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.events import problems
from tests.training.small_run import small_run
from tools import runs
from tools.context import Context, ToolError, inside
from tools.jobs.process import Process
from tools.running import record


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A home and a folder to work in; whatever still runs at the end is killed."""
    with inside(Context(home=tmp_path / "home", folder=tmp_path / "work")):
        yield tmp_path / "home"
    for path in (tmp_path / "home" / "runs").glob("*"):
        kill(path)


def kill(folder: Path) -> None:
    for attempt in record.job(folder).get("attempts", []):
        for pid in Process.from_json(attempt["ref"]["where"]["process"]).members():
            os.kill(pid, signal.SIGKILL)


def until(wanted: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := wanted()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.1)
    return found


def at_end(run: str) -> dict[str, Any]:
    return until(lambda: (now := runs.run_status(run))["over"] and now)


def test_a_watched_run_is_told_as_events_each_step_and_alert_once(place: Path) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    folder = small_run(place, "one", planned=4)
    alert = {"level": "WARN", "title": "loss rises", "text": "lower the learning rate", "step": 3}
    with inside(Context(home=place, tell=lambda kind, data: events.append((kind, data)))):
        runs.force_start("one")
        at_end("one")
        (folder / "alerts.jsonl").write_text(json.dumps(alert) + "\n")
        runs.run_status("one"), runs.run_status("one")
    assert not [wrong for kind, data in events for wrong in problems(kind, data)]
    told = [data["at_step"] for kind, data in events if kind == "metric"]
    assert told == [1, 2, 3, 4]
    assert [data["values"]["train/loss"] for kind, data in events if kind == "metric"] == [2, 1, 2 / 3, 0.5]
    last = [data for kind, data in events if kind == "job"][-1]
    assert (last["run"], last["state"], last["progress"], last["usd"]) == ("one", "succeeded", 1.0, 0.0)
    warned = [data["text"] for kind, data in events if kind == "error"]
    assert warned == ["one, step 3: loss rises: lower the learning rate"]


def test_a_run_is_watched_to_its_verdict(place: Path) -> None:
    small_run(place, "one")
    assert runs.run_status("one")["state"] == "prepared"
    assert runs.force_start("one")["state"] == "running"
    now = at_end("one")
    assert (now["state"], now["step"], now["planned_steps"], now["reason"]) == ("succeeded", 6, 6, "6 of 6 steps")
    assert now["loss"] == pytest.approx(2 / 6) and now["memory_mb"] == 123 and now["usd"] == 0.0
    assert now["verdict"]["verdict"] == "WIN" and now["log"][-1].startswith("* Run finished")
    assert "diagnosis" not in now
    assert runs.run_logs("one", 3)["lines"] == 3
    listed = runs.run_status()
    assert [row[:3] for row in listed["rows"]] == [["one", "succeeded", "6/6"]]


def test_a_script_that_was_not_rehearsed_is_not_started(place: Path) -> None:
    folder = small_run(place, "one")
    with pytest.raises(ToolError, match=r"not rehearsed.*preflight\('one'\).*runs start one --force"):
        runs.start_run("one")
    assert not (folder / "job.json").exists() and runs.run_status("one")["state"] == "prepared"


def test_a_script_whose_rehearsal_failed_is_not_started(place: Path) -> None:
    folder = small_run(place, "one")
    rehearsed(folder, False)
    with pytest.raises(ToolError, match=r"no rows left\. Mend it"):
        runs.start_run("one")


def rehearsed(folder: Path, passed: bool) -> None:
    from tools.training import digest

    findings = [{"check": "rows", "ok": passed, "what": "no rows left.", "mend": ""}]
    told = {"passed": passed, "digest": digest(folder / "train.py"), "findings": findings, "seconds": 1}
    (folder / "preflight.json").write_text(json.dumps(told))


def test_an_edited_script_does_not_run_on_the_host_unless_a_person_forces_it(place: Path) -> None:
    folder = small_run(place, "one")  # it is nothing its plan would render to
    rehearsed(folder, True)
    with pytest.raises(ToolError, match=r"not run on the host itself: train\.py is not what its plan"):
        runs.start_run("one")
    assert runs.force_start("one")["state"] == "running"
    assert record.job(folder)["forced"] is True


def test_what_runs_or_has_run_is_not_started_again(place: Path) -> None:
    small_run(place, "one", stop_at=2)
    runs.force_start("one")
    for again in (runs.force_start, runs.force_resume):
        with pytest.raises(ToolError, match="is running"):
            again("one")
    with pytest.raises(ToolError, match="never started"):
        small_run(place, "two")
        runs.force_resume("two")


def test_a_cancelled_run_leaves_a_checkpoint_and_goes_on_from_it(place: Path, tmp_path: Path) -> None:
    folder = small_run(place, "one", stop_at=3)
    runs.force_start("one")
    until(lambda: runs.run_status("one")["step"] == 3)
    stopped = runs.cancel_run("one")
    assert stopped["state"] == "cancelled" and "checkpoint-3" in stopped["reason"]
    with pytest.raises(ToolError, match="nothing to stop"):
        runs.cancel_run("one")
    runs.force_resume("one")
    now = at_end("one")
    assert (now["state"], now["step"]) == ("succeeded", 6)
    assert "from step 3" in (folder / "log.txt").read_text()
    report = next((tmp_path / "work" / "training_reports").glob("*.md")).read_text()
    assert "from the beginning; cancelled at step 3" in report and "from step 3; succeeded at step 6" in report


def test_a_run_killed_with_everything_is_lost_and_can_go_on(place: Path) -> None:
    folder = small_run(place, "one", stop_at=3)
    runs.force_start("one")
    until(lambda: runs.run_status("one")["step"] == 3)
    kill(folder)
    now = at_end("one")
    assert now["state"] == "lost" and now["diagnosis"]["kind"] == "lost" and now["step"] == 3
    kept = folder / "checkpoints" / "checkpoint-2"
    kept.mkdir(parents=True)
    (kept / "trainer_state.json").write_text("{}")
    (folder / "checkpoints" / "checkpoint-3").mkdir()  # cut while it was written
    runs.force_resume("one")
    assert record.last_attempt(folder)["from_step"] == 2  # type: ignore[index]


def test_the_time_limit_is_an_end_of_its_own(place: Path) -> None:
    small_run(place, "one", stop_at=2)
    runs.force_start("one", minutes=4 / 60)
    now = at_end("one")
    assert "note" not in now
    assert now["state"] == "limit" and "resume_run" in now["reason"]
    assert "diagnosis" not in now


def test_a_run_that_will_not_end_within_its_limit_says_so_before(place: Path) -> None:
    folder = small_run(place, "one", planned=900, stop_at=3)  # the script tells 897 seconds to go
    runs.force_start("one", minutes=2)
    until(lambda: runs.run_status("one")["step"] == 3)
    assert "reaches its limit of 2 minutes first, 15 min would be needed" in runs.run_status("one")["note"]
    kill(folder)


def test_running_out_of_memory_is_told_with_a_smaller_plan(place: Path) -> None:
    hyper = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    small_run(place, "one", stop_at=1, bad="memory", hyper=hyper)
    runs.force_start("one")
    cause = at_end("one")["diagnosis"]
    assert cause["kind"] == "out of memory" and "can't allocate memory" in cause["evidence"][0]
    assert cause["plan"]["hyper"]["per_device_train_batch_size"] == 2
    assert cause["plan"]["hyper"]["gradient_accumulation_steps"] == 4
    changed = [one["changes_result"] for one in cause["cures"]]
    assert changed == sorted(changed) and changed[0] is False  # what keeps the result comes first


def test_a_loss_that_is_no_number_is_told_with_a_lower_rate(place: Path) -> None:
    small_run(place, "one", stop_at=2, bad="nan")
    runs.force_start("one")
    now = at_end("one")
    assert now["state"] == "failed" and now["loss"] == "NaN" and json.dumps(now, allow_nan=False)
    cause = now["diagnosis"]
    assert cause["kind"] == "numbers that are none" and "train/loss is not a number from step 2" in cause["evidence"]
    assert cause["plan"]["hyper"]["learning_rate"] == pytest.approx(0.0002)


def test_a_script_that_ends_without_a_result_has_not_succeeded(place: Path) -> None:
    folder = small_run(place, "one")
    (folder / "train.py").write_text("print('I did nothing')")
    runs.force_start("one")
    now = at_end("one")
    assert now["state"] == "failed" and "its result says 'nothing'" in now["reason"]


def test_a_script_cannot_lead_our_writing_or_reading_out_of_its_folder(place: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"status": "succeeded", "error": {"text": "velvet"}}')
    folder = small_run(place, "one")
    links = "".join(
        f"os.path.lexists({name!r}) and os.unlink({name!r}); os.symlink({str(secret)!r}, {name!r})\n"
        for name in ("report.md", "result.json", "curves.png", "log.txt")
    )
    (folder / "train.py").write_text(f"import os\nos.chdir(os.environ['RUN_FOLDER'])\n{links}raise SystemExit(1)")
    runs.force_start("one")
    assert at_end("one")["state"] == "failed"
    assert "velvet" not in json.dumps(runs.run_status("one"))
    assert secret.read_text().startswith('{"status"')


def test_runs_are_compared_by_plan_and_outcome(place: Path) -> None:
    small_run(place, "one")
    small_run(place, "two", hyper={"learning_rate": 5e-4})
    for name in ("one", "two"):
        runs.force_start(name)
    at_end("one"), at_end("two")
    compared = runs.compare_runs(["one", "two"])
    rows = {row[0]: row[1:] for row in compared["rows"]}
    assert rows["plan: hyper.learning_rate"] == [0.001, 0.0005]
    assert [name for name in rows if name.startswith("plan: ")] == ["plan: hyper.learning_rate"]
    assert rows["state"] == ["succeeded", "succeeded"] and rows["verdict"] == ["WIN (judged by exact_match)"] * 2
    assert rows["exact_match, before → after"] == ["0 → 0.75", "0 → 0.75"]


def test_a_name_that_is_none_is_refused_with_those_there_are(place: Path) -> None:
    small_run(place, "one")
    for name in ("two", "../one", "", "One"):
        with pytest.raises(ToolError, match="There are: one"):
            runs.run_status(name)
