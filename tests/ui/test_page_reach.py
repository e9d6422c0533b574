"""The page for people who use no mouse or no eyes: axe finds nothing serious, and the keyboard reaches everything."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.cli.recorded import ASKED, TURN

from .chromium import Visit
from .conftest import Serve
from .test_page_hostile import stored

RULES = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


def nothing(page: Page) -> None:
    pass


def side(page: Page) -> None:
    page.get_by_role("button", name="Runs and artifacts").click()
    expect(page.locator(".runs li").first).to_be_visible()


def settings(page: Page) -> None:
    page.get_by_role("button", name="Settings and health").click()
    expect(page.locator(".setting").first).to_be_visible()


VIEWS: dict[str, Callable[[Page], None]] = {"conversation": nothing, "runs": side, "settings": settings}
ASKING = [*TURN[:-3], ("approval", ASKED)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(serve: Serve, visit: Visit, scheme: str) -> None:
    url, id = stored(serve, [*TURN, *ASKING])
    for address in (url, f"{url}/#s/{id}"):
        page = visit(address, color_scheme=scheme)
        if id in address:
            expect(page.get_by_role("region", name="Approval")).to_be_visible()
        for name, open in VIEWS.items():
            open(page)
            found = Axe().run(page, options=RULES).response["violations"]
            bad = [one for one in found if one["impact"] in ("serious", "critical")]
            told = [(one["id"], [node["html"][:160] for node in one["nodes"]][:4]) for one in bad]
            assert not told, f"{name} in {scheme} colours"
        page.context.close()


@pytest.mark.slow
def test_the_keyboard_alone_sends_a_task_and_opens_the_panel(serve: Serve, visit: Visit) -> None:
    page = visit(serve().url)
    page.keyboard.press("Control+j")
    page.keyboard.type("what can you do?")
    page.keyboard.press("Enter")
    expect(page.locator(".turn-foot .end")).to_be_visible()
    focused = "document.querySelector('ms-app').shadowRoot.activeElement"
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate(f"{focused}?.title") == "Runs and artifacts":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Runs")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Artifacts")).to_have_attribute("aria-selected", "true")
    ring = page.evaluate(f"getComputedStyle({focused}).outlineStyle")
    assert ring == "solid"
