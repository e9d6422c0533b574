"""`python -m tests.ui.screenshots`: a picture of every state of the page, light and dark, wide screen and phone.

What is seen is real: the recipes fine-tune a tiny model twice while the pictures are taken, in a sandbox, in a home
folder of its own; one call that would cost money comes from a scripted model. Needs Chromium (scripts/browser.sh);
a machine with the fonts Inter and JetBrains Mono shows the page as it is meant.
"""

import argparse
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from agent import toolbox
from agent.ui import passwords
from agent.ui.login import Passwords
from agent.ui.logins import Logins
from tests.agent.scripted_server import ScriptedServer, code
from tests.tiny_model import tiny_model
from tests.training.making import row_for, write_rows
from tests.ui.chromium import ARGUMENTS, PHONE, PROGRAM, ended, send, session_of
from tests.ui.serving import Page as Served
from tests.ui.serving import serving

WIDE: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}
KINDS = [(f"{size}-{scheme}", size, scheme) for size in ("wide", "phone") for scheme in ("light", "dark")]
FIRST, SECOND = (
    "fine-tune ./tiny-qwen3 on sums.jsonl for 12 epochs",
    "fine-tune ./tiny-qwen3 on sums.jsonl for 4 epochs",
)
DESCRIBE = "describe training-runs.csv"
RENT = 'script = "import trl\\nprint(1)\\n" * 6\nrent(hours=2, note=script)\nfinal_answer("rented")'
BROKEN = "import pandas as pd\nprint('reading')\npd.read_csv('not-there.csv')"
ROOT = Path(__file__).parents[2]
Step = Callable[[Page], object]


class Camera:
    def __init__(self, browser: Browser, folder: Path, only: str):
        self.browser, self.folder, self.only = browser, folder, only
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, name: str, url: str, step: Step) -> None:
        """The state that `step` leads to, four times."""
        if not any(part in name for part in self.only.split(",")):
            return
        for kind, size, scheme in KINDS:
            options = {**(WIDE if size == "wide" else {**PHONE, "device_scale_factor": 2}), "color_scheme": scheme}
            context = self.browser.new_context(**options)
            page = context.new_page()
            page.goto(url)
            step(page)
            page.wait_for_load_state("load")
            page.screenshot(path=self.folder / f"{name}-{kind}.png", animations="disabled")
            context.close()
        print(name, flush=True)


def begun(page: Page) -> None:
    page.locator("ms-app[ready]").wait_for()


def welcome(page: Page) -> None:
    begun(page)
    expect(page.locator(".example").first).to_be_visible()


def beside(page: Page, tab: str = "Runs") -> None:
    begun(page)
    page.get_by_role("button", name="Runs and artifacts").click()
    page.get_by_role("tab", name=tab).click()


def a_run(page: Page, view: str = "Curves") -> None:
    beside(page)
    page.locator(".run-open").last.click()
    page.get_by_role("tab", name=view).click()
    expect(page.locator(".chart").first if view == "Curves" else page.locator(".run-view > *").first).to_be_visible()


def watching(page: Page) -> None:
    beside(page)
    page.locator(".run-open", has_text="running").click()
    expect(page.locator(".chart").nth(1)).to_be_visible()


def both_runs(page: Page) -> None:
    beside(page)
    for box in page.locator(".run-row input").all():
        box.check()
    page.get_by_role("button", name="Compare 2").click()
    expect(page.locator(".legend li")).to_have_count(2)
    expect(page.locator(".run table")).to_be_visible()


def settings(page: Page, tab: str, row: str) -> None:
    begun(page)
    if page.get_by_role("button", name="Sessions").is_visible():
        page.get_by_role("button", name="Sessions").click()
    page.get_by_role("button", name="Settings and health").click()
    page.get_by_role("tab", name=tab).click()
    expect(page.locator(row).first).to_be_visible(timeout=90_000)


def top_of(page: Page, place: str) -> None:
    expect(page.locator(".turn-foot .end").last).to_be_visible()
    page.locator(place).last.evaluate("one => one.scrollIntoView({ block: 'start' })")


def talked(page: Page) -> None:
    beside(page, "Talk")
    field = page.get_by_label("Message to both models")
    expect(field).to_be_visible()
    field.fill("What is 12 plus 7?")
    field.press("Enter")
    expect(page.locator(".talk-said")).to_have_count(2, timeout=90_000)
    expect(page.locator(".talk-said.live")).to_have_count(0, timeout=90_000)


def drawer(page: Page) -> None:
    begun(page)
    if page.get_by_role("button", name="Sessions").is_visible():
        page.get_by_role("button", name="Sessions").click()
    expect(page.locator("li.session").first).to_be_visible()


def tune(camera: Camera, served: Served, home: Path) -> dict[str, str]:
    """Two fine-tunes and a description, watched; the addresses of their sessions."""
    page = camera.browser.new_context(**WIDE).new_page()
    page.set_default_timeout(600_000)
    expect.set_options(timeout=600_000)
    addresses = {}
    for name, task in (("describe", DESCRIBE), ("second", SECOND), ("first", FIRST)):
        page.goto(f"{served.url}/#new")
        begun(page)
        send(page, task)
        session_of(page)
        addresses[name] = page.url
        if name == "first":
            expect(page.locator(".tool.live, .spark path").last).to_be_attached()
            expect(page.locator(".spark path").last).to_be_attached()
            camera.take("running", page.url, watching)
        ended(page)
    page.context.close()
    expect.set_options(timeout=60_000)
    return addresses


@contextmanager
def place() -> Iterator[tuple[Path, Path]]:
    """A home folder, short and open to the jail, and a work folder with a model and data in it."""
    home = Path(tempfile.mkdtemp(prefix="smith-"))
    home.chmod(0o755)
    work = home / "work"
    work.mkdir()
    draw = random.Random(0)
    write_rows(work / "sums.jsonl", [row_for("sft", draw.randrange(60), draw.randrange(60)) for _ in range(240)])
    shutil.copytree(tiny_model(), work / "tiny-qwen3")
    shutil.copy(ROOT / "examples" / "training-runs.csv", work)
    before = Path.cwd()
    os.chdir(work)
    try:
        yield home, work
    finally:
        os.chdir(before)
        shutil.rmtree(home, ignore_errors=True)


def scripted(camera: Camera, home: Path) -> None:
    """A card that asks, and a turn that fails."""
    toolbox.MODULES.append("tests.cli.renting")
    for name, answers in (("approval", [code(RENT)]), ("failed", [code(BROKEN)] * 4)):
        with ScriptedServer(answers) as model, serving(home, model=model.url, max_usd=20, max_steps=2) as served:
            id = served.new()
            served.ask(id, "train it on a rented machine" if name == "approval" else "read not-there.csv")
            if name == "approval":
                served.waiting(id)
                shown = ".approval"
            else:
                served.ended(id)
                shown = ".error.fatal"
            camera.take(
                name, f"{served.url}/#s/{id}", lambda one, shown=shown: expect(one.locator(shown).last).to_be_visible()
            )
            served.client.post(f"/x/sessions/{id}/stop", json={})
            served.ended(id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "screenshots", help="the folder for the pictures")
    parser.add_argument("--only", default="", help="only states whose name contains one of these, by commas")
    args = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with place() as (home, _), sync_playwright() as driver:
        camera = Camera(driver.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS), args.to.resolve(), args.only)
        with serving(home) as served:
            camera.take("welcome", served.url, welcome)
            at = tune(camera, served, home)
            camera.take("sessions", at["describe"], drawer)
            camera.take("describe", at["describe"], lambda one: top_of(one, ".picture"))
            camera.take("work", at["first"], lambda one: top_of(one, ".code-block.cell"))
            camera.take("report", at["first"], lambda one: top_of(one, ".answer"))
            camera.take("run", at["first"], a_run)
            camera.take("run-plan", at["first"], lambda one: a_run(one, "Plan"))
            camera.take("run-log", at["first"], lambda one: a_run(one, "Log"))
            camera.take("compare", at["first"], both_runs)
            camera.take(
                "artifacts",
                at["describe"],
                lambda one: (beside(one, "Artifacts"), expect(one.locator(".artifact").first).to_be_visible()),
            )
            camera.take("talk", at["first"], talked)
            camera.take("settings", served.url, lambda one: settings(one, "Settings", ".setting"))
            camera.take("skills", served.url, lambda one: settings(one, "Skills", ".skill"))
            camera.take("health", served.url, lambda one: settings(one, "Health", ".finding"))
        scripted(camera, home)
        people = passwords.read([passwords.line("ann", "correct horse battery")])
        with serving(home, Passwords(people, Logins(home))) as served:
            camera.take("login", served.url, lambda one: expect(one.get_by_label("Name")).to_be_visible())


if __name__ == "__main__":
    main()
