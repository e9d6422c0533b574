"""A run lives on the server: reloads, other tabs, other people, broken connections and old sessions."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect

from agent.ui import passwords
from agent.ui.login import Passwords
from agent.ui.logins import Logins
from tests.agent.scripted_server import ScriptedServer, code
from tests.agent.talking import until
from tests.conftest import ROOT

from .chromium import Visit, ended, send, session_of
from .conftest import Serve
from .serving import serving

COUNT = (
    "import time\nfor n in range(60):\n    print(f'<{n}>', flush=True)\n    time.sleep(0.05)\nfinal_answer('counted')"
)
WHOLE = "\n".join(f"<{n}>" for n in range(60))
PEOPLE = {"ann": "correct horse battery", "bob": "staple of another kind"}


def printed(tab: Tab) -> str:
    return tab.locator(".output").inner_text().strip()


def test_a_reload_and_a_second_tab_show_the_run_without_gap_or_double(
    serve: Serve,
    visit: Visit,
) -> None:
    page = visit(serve([code(COUNT)]).url)
    send(page, "count")
    expect(page.locator(".output")).to_contain_text("<5>")
    page.reload()
    second = page.context.new_page()
    second.goto(page.url)
    for tab in (page, second):
        expect(tab.locator(".output")).to_contain_text("<20>")
        ended(tab)
        assert printed(tab) == WHOLE
        expect(tab.locator(".answer")).to_contain_text("counted")


@pytest.mark.slow
def test_a_broken_connection_is_told_and_what_was_missed_comes(serve: Serve, visit: Visit) -> None:
    page = visit(serve([code(COUNT)]).url)
    send(page, "count")
    expect(page.locator(".output")).to_contain_text("<5>")
    page.context.set_offline(True)
    page.evaluate("document.querySelector('ms-app').stream.socket.close()")
    expect(page.locator(".status")).to_contain_text("Connection lost")
    page.context.set_offline(False)
    ended(page)
    expect(page.locator(".status")).to_have_text("")
    assert printed(page) == WHOLE


@pytest.mark.slow
def test_the_run_goes_on_while_no_page_looks(serve: Serve, visit: Visit) -> None:
    served = serve([code(COUNT)])
    page = visit(served.url)
    send(page, "count")
    expect(page.locator(".output")).to_contain_text("<2>")
    id, address = session_of(page), page.url
    page.close()
    assert served.ended(id) == "succeeded"
    again = visit(address)
    ended(again)
    assert printed(again) == WHOLE


@pytest.mark.slow
def test_an_old_session_is_found_opened_renamed_and_deleted(serve: Serve, visit: Visit) -> None:
    served = serve([code("final_answer('about zebras')")])
    page = visit(served.url)
    send(page, "tell me of striped horses")
    ended(page)
    page.get_by_role("button", name="New session", exact=True).click()
    expect(page.get_by_text("What shall we make?")).to_be_visible()
    page.get_by_label("Search the sessions").fill("zebras")
    row = page.locator("li.session")
    expect(row).to_have_count(1)
    row.get_by_role("link").click()
    expect(page.locator(".answer")).to_contain_text("about zebras")
    row.get_by_role("button").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("Zebras & co")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Zebras & co")
    row.get_by_role("button").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("What shall we make?")).to_be_visible()
    expect(row).to_have_count(0)


@pytest.mark.slow
def test_two_people_work_at_once_and_see_nothing_of_each_other(own_home: Path, visit: Visit) -> None:
    people = passwords.read([passwords.line(name, word) for name, word in PEOPLE.items()])
    with serving(own_home, Passwords(people, Logins(own_home))) as served:
        tabs = {name: visit(served.url, ready=False) for name in PEOPLE}
        for name, tab in tabs.items():
            tab.get_by_label("Name").fill(name)
            tab.get_by_label("Password").fill("wrong" if name == "ann" else PEOPLE[name])
            tab.get_by_role("button", name="Sign in").click()
        expect(tabs["ann"].get_by_role("alert")).to_be_visible()
        expect(tabs["ann"].locator("ms-app")).to_have_count(0)
        tabs["ann"].get_by_label("Name").fill("ann")
        tabs["ann"].get_by_label("Password").fill(PEOPLE["ann"])
        tabs["ann"].get_by_role("button", name="Sign in").click()
        for name, tab in tabs.items():
            tab.locator("ms-app[ready]").wait_for()
            send(tab, f"I am {name}, what can you do?")
        for name, tab in tabs.items():
            ended(tab, "")
            expect(tab.locator("li.session")).to_have_count(1)
            expect(tab.locator("li.session")).to_contain_text(f"I am {name}")
        stolen = session_of(tabs["ann"])
        tabs["bob"].goto(f"{served.url}/#s/{stolen}")
        expect(tabs["bob"].locator(".status")).to_contain_text("gone")
        expect(tabs["bob"].locator(".turn")).to_have_count(0)


@pytest.mark.slow
def test_eight_tabs_of_one_browser_are_all_live(serve: Serve, visit: Visit) -> None:
    page = visit(serve([code(COUNT.replace("60", "200"))]).url)
    send(page, "count")
    session_of(page)
    tabs = [page.context.new_page() for _ in range(7)]
    for tab in tabs:
        tab.goto(page.url)
    for tab in [page, *tabs]:
        ended(tab)
        expect(tab.locator(".output")).to_contain_text("<199>")


@pytest.mark.slow
def test_a_killed_server_comes_back_and_the_run_goes_on_before_the_same_eyes(own_home: Path, visit: Visit) -> None:
    with ScriptedServer([code(COUNT.replace("60", "2000")), code("final_answer('gone on')")]) as model:
        port = free_port()
        first = started(own_home, port, model.url)
        page = visit(f"http://127.0.0.1:{port}")
        send(page, "count")
        expect(page.locator(".output")).to_contain_text("<5>")
        first.kill()
        first.wait()
        expect(page.locator(".status")).to_contain_text("Connection lost")
        second = started(own_home, port, model.url)
        try:
            expect(page.locator(".turn")).to_have_count(2, timeout=60_000)
            ended(page, turns=2)
            expect(page.locator(".answer").last).to_contain_text("gone on")
            expect(page.locator(".turn").first.locator(".turn-foot")).to_contain_text("Interrupted")
            page.reload()
            ended(page, turns=2)
        finally:
            second.terminate()
            second.wait(30)


def started(home: Path, port: int, model: str) -> subprocess.Popen:
    told = {"MODELSMITH_HOME": str(home), "MODELSMITH_MODEL": model, "MODELSMITH_SANDBOX": "embedded"}
    envs = {**os.environ, **told, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "agent", "ui", "--port", str(port)], env=envs, cwd=home)
    until(lambda: answers(port), 60)
    return process


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/x/me", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_half_a_line_stands_until_its_other_half_comes(serve: Serve, visit: Visit) -> None:
    halves = (
        "import sys, time\nsys.stdout.write('one\\ntwo')\nsys.stdout.flush()\ntime.sleep(0.5)\nprint(' and a half')"
    )
    page = visit(serve([code(f"{halves}\nfinal_answer('done')")]).url)
    send(page, "print")
    ended(page)
    assert printed(page) == "one\ntwo and a half"
