"""Debian's Chromium, driven by Playwright: one browser for all tests, a context of its own for each visitor.

A test fails when the page throws, or when a script, a picture or anything else is asked for from another host.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

PROGRAM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
]  # fmt: skip
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
Visit = Callable[..., Page]
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = PROGRAM if os.path.exists(PROGRAM) else shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not here (apt-get install chromium; scripts/browser.sh does it)")
    # sooner or later the driver's loop is closed by whoever made it, on this thread
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """`visit(url, phone=False, …)`: another person's browser on the page, ready; options go to the context."""
    contexts, thrown, foreign = [], [], []

    def come(url: str, phone: bool = False, ready: bool = True, **options: Any) -> Page:
        size = PHONE if phone else {"viewport": {"width": 1280, "height": 860}}
        context = chromium.new_context(**{**size, "accept_downloads": True, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: thrown.append(str(error)))
        own = urlsplit(url).netloc
        page.on("request", lambda asked: foreign.append(asked.url) if not of(asked.url, own) else None)
        page.goto(url)
        if ready:
            page.locator("ms-app[ready]").wait_for()
        return page

    yield come
    for context in contexts:
        context.close()
    assert not thrown and not foreign


def of(url: str, own: str) -> bool:
    told = urlsplit(url)
    return told.scheme in ("data", "blob") or told.netloc == own


def send(page: Page, text: str) -> None:
    """As a person does it: type and press Enter."""
    field = page.get_by_label("Message", exact=True)
    field.fill(text)
    field.press("Enter")


def ended(page: Page, words: str = "Done", turns: int = 1) -> None:
    """The newest turn has come to its end."""
    expect(page.locator(".turn")).to_have_count(turns)
    expect(page.locator(".turn").last.locator(".turn-foot .end")).to_contain_text(words)


def session_of(page: Page) -> str:
    expect(page).to_have_url(re.compile("#s/"))
    return page.url.rpartition("#s/")[2]
