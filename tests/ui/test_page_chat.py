"""The conversation in a real browser: from a task to its answer, and what a person does around it."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.agent.scripted_server import code
from tests.agent.talking import until

from .chromium import Visit, ended, send, session_of
from .conftest import Serve

ANSWER = "final_answer('Two **things**: `a` and [a link](https://example.org/x).')"


def test_a_task_with_recipes_is_watched_to_its_answer(serve: Serve, visit: Visit, work_folder: Path) -> None:
    (work_folder / "runs.csv").write_text("rate,loss\n" + "0.1,2.5\n0.2,2.1\n" * 10)
    page = visit(serve().url)
    expect(page.get_by_text("What shall we make?")).to_be_visible()
    send(page, "describe runs.csv")
    ended(page)
    expect(page.locator(".task-text")).to_have_text("describe runs.csv")
    expect(page.locator(".code-block.cell").first).to_contain_text("read_csv")
    expect(page.locator(".cell .t-word").first).to_have_text("from")
    expect(page.locator(".output").first).to_contain_text("20 rows, 2 columns")
    expect(page.locator(".answer strong").first).to_have_text("runs.csv")
    picture = page.locator(".picture img").first
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("one => one.naturalWidth") > 100
    expect(page.get_by_role("heading", level=1)).to_have_text("describe runs.csv")
    expect(page.locator(".session a[aria-current=page]")).to_contain_text("describe runs.csv")
    expect(page.locator(".hint")).to_contain_text("no language model")
    assert "Answer: " in page.locator("ms-log [role=log]").inner_text()


@pytest.mark.slow
def test_an_answer_is_nodes_with_safe_links(serve: Serve, visit: Visit) -> None:
    page = visit(serve([code(ANSWER)]).url)
    send(page, "say it")
    ended(page)
    link = page.locator(".answer a")
    expect(link).to_have_attribute("href", "https://example.org/x")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(page.locator(".answer code")).to_have_text("a")
    expect(page.locator(".thought-first")).to_have_text("Doing the next step.")


def test_the_models_plan_stands_in_the_turn_with_what_is_done(serve: Serve, visit: Visit) -> None:
    page = visit(serve([code("show_plan(['look', 'train', 'measure'], done=1)\nfinal_answer('planned')")]).url)
    send(page, "plan it")
    ended(page)
    expect(page.locator(".plan li")).to_have_text(["look (done)", "train (now)", "measure (later)"])


def test_stop_ends_a_cell_within_a_second_and_says_so(serve: Serve, visit: Visit) -> None:
    served = serve([code("import time\nprint('begun', flush=True)\ntime.sleep(60)")])
    page = visit(served.url)
    send(page, "wait")
    expect(page.locator(".output")).to_contain_text("begun")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".turn-foot .end")).to_contain_text("Stopped", timeout=5_000)
    events = served.events(session_of(page))
    assert events[-1]["data"]["state"] == "cancelled"
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


@pytest.mark.slow
def test_a_dropped_dataset_reaches_the_sandbox(serve: Serve, visit: Visit) -> None:
    page = visit(serve().url)
    drop = """async () => {
      const files = new DataTransfer();
      files.items.add(new File(["name,age\\nann,31\\nbob,40\\n"], "people.csv", { type: "text/csv" }));
      const app = document.querySelector("ms-app");
      app.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop)
    expect(page.locator("ms-composer .file-chip")).to_contain_text("people.csv")
    send(page, "describe the file")
    ended(page)
    expect(page.locator(".output").first).to_contain_text("2 rows, 2 columns")
    expect(page.locator(".task-text")).to_have_text("describe the file (uploads/people.csv)")
    expect(page.locator("ms-composer .file-chip")).to_have_count(0)


@pytest.mark.slow
def test_a_task_is_edited_and_sent_again_in_a_session_of_its_own(serve: Serve, visit: Visit) -> None:
    page = visit(serve([code("final_answer('first')"), code("final_answer('second')")]).url)
    send(page, "one")
    ended(page)
    first = session_of(page)
    page.get_by_role("button", name="Edit and send again").click()
    field = page.get_by_label("The task")
    field.fill("two")
    field.press("Enter")
    expect(page).not_to_have_url(re.compile(first))
    ended(page)
    expect(page.locator(".answer")).to_have_text("Answersecond")
    expect(page.locator(".task-text")).to_have_text("two")


@pytest.mark.slow
def test_a_second_task_folds_the_first_ones_work(serve: Serve, visit: Visit) -> None:
    page = visit(serve([code("print(1)\nfinal_answer('first')"), code("final_answer('second')")]).url)
    send(page, "one")
    ended(page)
    send(page, "two")
    ended(page, turns=2)
    work = page.locator(".turn").first.locator("details.work")
    expect(work).not_to_have_attribute("open", "")
    work.locator("summary.work-summary").click()
    expect(work.locator(".cell").first).to_be_visible()


@pytest.mark.slow
def test_slash_shows_commands_and_escape_gives_the_text_back(serve: Serve, visit: Visit) -> None:
    page = visit(serve().url)
    field = page.get_by_label("Message", exact=True)
    field.fill("/")
    expect(page.get_by_role("option").filter(has_text="/export")).to_be_visible()
    expect(page.get_by_role("option").filter(has_text="/llm-trainer")).to_be_visible()
    field.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    field.fill("/sett")
    field.press("Enter")
    expect(page.get_by_role("dialog", name="Settings and health")).to_be_visible()
    expect(field).to_have_value("")


@pytest.mark.slow
def test_what_was_typed_survives_a_reload(serve: Serve, visit: Visit) -> None:
    page = visit(serve().url)
    page.get_by_label("Message", exact=True).fill("half a thought")
    page.reload()
    expect(page.get_by_label("Message", exact=True)).to_have_value("half a thought")


@pytest.mark.slow
def test_a_refused_task_stays_in_the_field_and_says_why(serve: Serve, visit: Visit) -> None:
    served = serve([code("final_answer('ok')")])
    page = visit(served.url)
    page.locator("ms-composer input[type=file]").set_input_files(
        {"name": "bad.exe", "mimeType": "application/x-msdownload", "buffer": b"MZ"}
    )
    send(page, "look at it")
    expect(page.locator(".toast")).to_contain_text("exe")
    expect(page.get_by_label("Message", exact=True)).to_have_value("look at it")


@pytest.mark.slow
def test_the_view_follows_only_a_reader_at_the_end(serve: Serve, visit: Visit) -> None:
    source = "import time\nfor n in range(400):\n    print('line', n, flush=True)\n    time.sleep(0.005)"
    page = visit(serve([code("print('x\\n' * 300)"), code(source), code(source), "done"]).url)
    send(page, "print")
    expect(page.locator(".output").nth(1)).to_contain_text("line 60")
    page.locator(".log-scroll").hover()
    page.mouse.wheel(0, -3000)
    expect(page.get_by_role("button", name="To the end")).to_be_visible()
    at = page.locator(".log-scroll").evaluate("one => one.scrollTop")
    ended(page)
    assert page.locator(".log-scroll").evaluate("one => one.scrollTop") == pytest.approx(at, abs=40)
    page.get_by_role("button", name="To the end").click()
    end = "one => one.scrollHeight - one.scrollTop - one.clientHeight"
    until(lambda: page.locator(".log-scroll").evaluate(end) < 4)
