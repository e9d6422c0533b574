"""The report: true while the run goes on, whole at its end, in both places, and never from memory."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.making import rows_for, write_rows
from tests.training.small_run import small_run
from tests.training.test_runs import at_end, kill, until
from tools import reports, runs
from tools.context import Context, ToolError, inside

REASON = {"what": "learning_rate", "value": "0.001", "why": "small models take a | larger one"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with inside(Context(home=tmp_path / "home", folder=tmp_path / "work")):
        yield tmp_path / "home"
    for path in (tmp_path / "home" / "runs").glob("*"):
        kill(path)


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found[1] if found else ""


def test_a_finished_runs_report_has_everything(place: Path, tmp_path: Path) -> None:
    folder = small_run(place, "one", reasons=[REASON], estimate={"memory_gb": 0.5, "minutes": [1.0, 2.0]})
    write_rows(place / "sums.jsonl", rows_for("sft"))
    runs.force_start("one")
    at_end("one")
    told = reports.write_report("one")
    text = told["markdown"]
    assert (
        "State: **succeeded**" in text and "VERDICT: **WIN** (judged by exact_match), " in text and "`--force`" in text
    )
    assert "sums.jsonl" in section(text, "What was asked") and "**sft**" in section(text, "What was asked")
    assert "; judged by exact_match on held-out rows." in section(text, "What was asked")  # the plan said loss
    assert "Audit: ready" in section(text, "Data") and "20% of the training rows" in section(text, "Data")
    assert "| learning_rate | 0.001 | small models take a \\| larger one |" in section(text, "Plan")
    assert "| time | 1.0 to 2.0 min | 0." in section(text, "Time and cost") and "$0.00" in section(
        text, "Time and cost"
    )
    assert "| exact_match | 0 | 0.75 | +0.75 |" in section(text, "Verdict")
    assert "0 + 1?" in section(text, "Samples") and "**after**" in section(text, "Samples")
    assert f"python {folder / 'train.py'}" in section(text, "Reproduce")
    assert f'pipeline("text-generation", "{folder / "model"}")' in section(text, "Use the model")
    assert section(text, "What to try next").startswith("- ")
    assert Path(told["path"]) == tmp_path / "work" / "training_reports" / "tiny-qwen3-1-sums-sft.md"


def test_the_curves_lie_beside_both_pages(place: Path, tmp_path: Path) -> None:
    folder = small_run(place, "one")
    runs.force_start("one")
    at_end("one")
    told = reports.write_report("one")
    page = Path(told["path"])
    for text, beside in ((page.read_text(), page.parent), ((folder / "report.md").read_text(), folder)):
        name = re.search(r"!\[curves\]\((.+?)\)", text)
        assert name and (beside / name[1]).read_bytes().startswith(b"\x89PNG")
    assert base64.b64decode(told["picture"]["png"]).startswith(b"\x89PNG")


def test_the_report_is_there_from_submission_on_and_follows_the_run(place: Path, tmp_path: Path) -> None:
    small_run(place, "one", stop_at=2)
    runs.force_start("one")
    page = tmp_path / "work" / "training_reports" / "tiny-qwen3-1-sums-sft.md"
    assert "State: **running**" in page.read_text() and "Not measured yet." in page.read_text()
    until(lambda: runs.run_status("one")["step"] == 2)
    runs.cancel_run("one")
    assert "State: **cancelled**" in page.read_text()
    assert "runs resume one` goes on from step 2" in section(page.read_text(), "What to try next")


def test_a_failed_runs_report_says_why_and_what_to_do(place: Path) -> None:
    small_run(place, "one", stop_at=1, bad="memory")
    runs.force_start("one")
    at_end("one")
    text = reports.write_report("one")["markdown"]
    assert "**What went wrong: out of memory**" in section(text, "Course")
    assert "batch 2 x accumulation 2 in place of 4 x 1" in section(text, "What to try next")
    assert "None: the run ended as failed." in section(text, "Verdict") and not section(text, "Use the model")


def test_a_later_run_of_the_same_takes_the_page_over_and_each_keeps_its_own(place: Path) -> None:
    for name in ("one", "two"):
        small_run(place, name)
        runs.force_start(name)
        at_end(name)
    told = {name: reports.write_report(name) for name in ("one", "two")}
    assert told["one"]["path"] == told["two"]["path"]
    assert "Run `two`" in Path(told["two"]["path"]).read_text()
    assert "Run `one`" in (place / "runs" / "one" / "report.md").read_text()


def test_a_folder_that_cannot_be_written_is_told(place: Path, tmp_path: Path) -> None:
    small_run(place, "one")
    (tmp_path / "work").write_text("a file where a folder should be")
    with pytest.raises(ToolError, match="The report is at"):
        reports.write_report("one")


def test_answers_with_fences_do_not_break_the_page(place: Path) -> None:
    from tools.running.page import fenced

    assert fenced("```python\n1\n```").startswith("````text\n")
