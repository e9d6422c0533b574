"""What stands beside the conversation: runs with their curves, artifacts, settings, health; and the narrow screen."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.agent.scripted_server import code
from tests.agent.talking import until
from tests.tiny_model import tiny_model
from tests.training.small_run import small_run
from tests.training.test_runs import kill
from tests.training.test_sentence_to_report import sums
from tools.context import Context, inside
from tools.runs import force_start, run_status

from .chromium import Visit, ended, send
from .conftest import Serve

MADE = """
import matplotlib.pyplot as plt
plt.plot([1, 2, 3]); plt.show()
final_answer('made')
"""

WIDE = """
print('y' * 3000)
final_answer('| a | b |\\n|---|---|\\n| ' + 'z' * 300 + ' | 1 |')
"""
SIDEWAYS = """() => {
  const root = document.querySelector("ms-app").shadowRoot;
  const seen = [...root.querySelectorAll(".log-scroll, .panel:not([hidden]), .frame, .head")];
  const wide = [document.documentElement, ...seen].filter((one) => one.scrollWidth > one.clientWidth + 1);
  return wide.map((one) => one.className);
}"""


@pytest.fixture
def two_runs(shared_home: Path, work_folder: Path) -> Iterator[tuple[str, str]]:
    names = ("first", "second")
    with inside(Context(home=shared_home, folder=work_folder, offline=True)):
        for name, steps in zip(names, (6, 8), strict=True):
            small_run(shared_home, name, planned=steps)
            force_start(name)
        until(lambda: all(run_status(name)["state"] == "succeeded" for name in names), 60)
    yield names
    for name in names:
        kill(shared_home / "runs" / name)
        shutil.rmtree(shared_home / "runs" / name)


@pytest.mark.slow
def test_runs_show_their_curves_and_two_are_compared(
    serve: Serve,
    visit: Visit,
    two_runs: tuple[str, str],
) -> None:
    page = visit(serve().url)
    page.get_by_role("button", name="Runs and artifacts").click()
    panel = page.get_by_role("complementary", name="Runs and artifacts")
    expect(panel.locator(".run-row")).to_have_count(2)
    panel.locator(".run-open", has_text="first").click()
    expect(panel.get_by_role("img", name="Loss, 0.3333 at step 6")).to_be_visible()
    expect(panel.locator(".verdict strong")).to_have_text("WIN")
    panel.get_by_role("tab", name="Log").click()
    expect(panel.locator(".log")).to_contain_text("step 6")
    panel.get_by_role("tab", name="Report").click()
    expect(panel.locator(".report")).to_contain_text("VERDICT")
    panel.get_by_role("button", name="All runs").click()
    for name in two_runs:
        panel.get_by_label(f"Compare {name}").check()
    panel.get_by_role("button", name="Compare 2").click()
    expect(panel.get_by_role("img", name="Loss, first: 0.3333 at step 6; second: 0.25 at step 8")).to_be_visible()
    expect(panel.locator(".legend li")).to_have_text(["first", "second"])
    expect(panel.locator("table")).to_contain_text("second")


def test_an_artifact_is_looked_at_and_downloaded(
    serve: Serve,
    visit: Visit,
    tmp_path: Path,
) -> None:
    page = visit(serve([code(MADE)]).url)
    send(page, "draw")
    ended(page)
    page.locator(".picture").click()
    panel = page.get_by_role("complementary", name="Runs and artifacts")
    expect(panel.locator(".preview-picture")).to_have_js_property("complete", True)
    with page.expect_download() as got:
        panel.get_by_role("link", name="Download").click()
    got.value.save_as(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    panel.get_by_role("button", name="All artifacts").click()
    with page.expect_download() as got:
        panel.get_by_role("link", name="All").click()
    got.value.save_as(tmp_path / "all.zip")
    assert (tmp_path / "all.zip").read_bytes().startswith(b"PK")


@pytest.mark.slow
def test_a_setting_is_kept_and_secrets_are_only_told_of(serve: Serve, visit: Visit) -> None:
    served = serve()
    page = visit(served.url)
    page.get_by_role("button", name="Settings and health").click()
    drawer = page.get_by_role("dialog", name="Settings and health")
    drawer.get_by_label("Dollars a session").fill("12.5")
    drawer.get_by_label("Dollars a session").press("Enter")
    expect(drawer).to_contain_text("Saved.")
    assert {"key": "max_usd", "value": 12.5} in [
        {"key": row["key"], "value": row.get("value")} for row in served.client.get("/x/settings").json()
    ]
    expect(drawer.locator(".setting", has_text="Hugging Face token").locator(".badge")).to_have_text("not set")
    drawer.get_by_role("tab", name="Skills").click()
    expect(drawer.get_by_role("switch", name="llm-trainer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    served.client.put("/x/settings", json={"max_usd": None})


@pytest.mark.slow
def test_colours_follow_the_switch_and_are_remembered(serve: Serve, visit: Visit) -> None:
    page = visit(serve().url, color_scheme="dark")
    paper = "getComputedStyle(document.querySelector('ms-app')).backgroundColor"
    assert page.evaluate(paper) == "rgb(19, 21, 24)"
    page.get_by_role("button", name="Colours: as the system").click()
    expect(page.get_by_role("button", name="Colours: light")).to_be_visible()
    page.reload()
    page.locator("ms-app[ready]").wait_for()
    assert page.evaluate(paper) == "rgb(247, 247, 245)"


@pytest.mark.slow
def test_a_phone_has_sheets_and_never_scrolls_sideways(serve: Serve, visit: Visit) -> None:
    page = visit(serve([code(WIDE)]).url, phone=True)
    send(page, "a wide thing")
    ended(page)
    page.get_by_role("button", name="Sessions").click()
    expect(page.get_by_role("navigation", name="Sessions")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Runs and artifacts").click()
    expect(page.get_by_role("tab", name="Artifacts")).to_be_visible()
    assert page.evaluate(SIDEWAYS) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fine_tune_is_watched_from_the_sentence_to_the_report(serve: Serve, visit: Visit, work_folder: Path) -> None:
    shutil.copytree(tiny_model(), work_folder / "tiny-model")
    sums(work_folder / "sums.jsonl", "sft", 120)
    page = visit(serve().url)
    send(page, "fine-tune ./tiny-model on sums.jsonl for 2 epochs")
    page.get_by_role("button", name="Runs and artifacts").click()
    panel = page.get_by_role("complementary", name="Runs and artifacts")
    panel.locator(".run-open", has_text="tiny-model").click(timeout=300_000)
    expect(panel.locator(".run-head .badge")).to_have_text("succeeded", timeout=600_000)
    expect(panel.get_by_role("img", name="Held-out loss")).to_be_visible()
    expect(page.locator(".turn-foot .end")).to_contain_text("Done", timeout=300_000)
    expect(page.locator(".answer")).to_contain_text("VERDICT")
    page.locator(".answer img").scroll_into_view_if_needed()
    expect(page.locator(".answer img")).to_have_js_property("complete", True)
    expect(page.locator(".tool", has_text="run_status")).to_have_count(1)
