"""A call with a price is put to the person on a card; what they say is what happens, once."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from agent import toolbox
from tests.agent.scripted_server import code
from tests.training.small_run import small_run

from .chromium import Visit, ended, send
from .conftest import Serve

pytestmark = pytest.mark.usefixtures("only_test_tools")
BUY = "print(buy('a GPU', usd=2.5))\nfinal_answer('over')"


def acts(home: Path) -> list[str]:
    log = home / "acts.log"
    return log.read_text().split("\n")[:-1] if log.exists() else []


def test_a_priced_call_is_shown_with_its_price_and_done_once_approved(
    serve: Serve,
    visit: Visit,
    shared_home: Path,
) -> None:
    page = visit(serve([code(BUY)], max_usd=10).url)
    send(page, "buy one")
    card = page.get_by_role("region", name="Approval")
    expect(card.get_by_role("heading")).to_have_text("buy a GPU")
    for told in ("costs money", "shop.example", "$2.50", "$10.00"):
        expect(card).to_contain_text(told)
    expect(page.locator(".hint")).to_contain_text("Waits for your decision")
    expect(page.locator(".session .session-when").first).to_have_text("waits for you")
    expect(page.locator("ms-log [role=log]")).to_contain_text("asks for your approval")
    assert acts(shared_home) == []
    card.get_by_role("button", name="Approve", exact=True).click()
    ended(page)
    expect(card).to_contain_text("Approved by you")
    expect(card.get_by_role("button")).to_have_count(0)
    assert acts(shared_home) == ["buy a GPU"]


@pytest.mark.slow
def test_a_refused_call_is_not_done_and_the_reason_is_told(
    serve: Serve,
    visit: Visit,
    shared_home: Path,
) -> None:
    source = "try:\n    buy('a yacht')\nexcept Exception as error:\n    final_answer(f'not bought: {error}')"
    page = visit(serve([code(source)]).url)
    send(page, "buy one")
    card = page.get_by_role("region", name="Approval")
    card.get_by_label("Reason for refusing").fill("too large for the bath")
    card.get_by_role("button", name="Refuse").click()
    ended(page)
    expect(card).to_contain_text("Refused by you")
    expect(page.locator(".answer")).to_contain_text("too large for the bath")
    assert acts(shared_home) == []


@pytest.mark.slow
def test_yes_for_the_session_covers_later_calls_up_to_the_amount(
    serve: Serve,
    visit: Visit,
    shared_home: Path,
) -> None:
    source = "for n in range(3):\n    print(buy(f'part {n}', usd=1.0))\nfinal_answer('over')"
    page = visit(serve([code(source)]).url)
    send(page, "buy three")
    card = page.get_by_role("region", name="Approval")
    card.get_by_label("Dollars for this session").fill("2")
    card.get_by_role("button", name="Approve all like this").click()
    expect(card).to_have_count(2)  # the third does not fit
    assert acts(shared_home) == ["buy part 0", "buy part 1"]
    card.last.get_by_role("button", name="Approve", exact=True).click()
    ended(page)
    assert acts(shared_home) == ["buy part 0", "buy part 1", "buy part 2"]


@pytest.mark.slow
def test_a_card_answered_in_another_tab_is_settled_in_both(serve: Serve, visit: Visit) -> None:
    served = serve([code(BUY)])
    page = visit(served.url)
    send(page, "buy one")
    expect(page.get_by_role("region", name="Approval")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_role("button", name="Approve", exact=True).click()
    ended(page)
    expect(page.get_by_role("region", name="Approval")).to_contain_text("Approved by you")


@pytest.mark.slow
def test_a_turn_that_ends_takes_the_question_back(serve: Serve, visit: Visit) -> None:
    page = visit(serve([code(BUY)]).url)
    send(page, "buy one")
    card = page.get_by_role("region", name="Approval")
    expect(card).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    ended(page, "Stopped")
    expect(card.get_by_role("button")).to_have_count(0)


@pytest.mark.slow
def test_the_script_of_the_run_is_read_and_changed_on_the_card(
    serve: Serve, visit: Visit, shared_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolbox, "MODULES", ["tests.ui.costly"])
    folder = small_run(shared_home, "on-the-card")
    page = visit(serve([code("print(train_elsewhere('on-the-card'))\nfinal_answer('over')")]).url)
    send(page, "train it")
    card = page.get_by_role("region", name="Approval")
    expect(card).to_contain_text("stopped after 30 minutes")
    expect(card).to_contain_text("$3.00")
    expect(card.locator("details.script summary")).to_contain_text("The script (")
    card.locator("details.script summary").click()
    card.get_by_role("button", name="Edit before approving").click()
    card.get_by_label("The script", exact=True).fill("print('mine')\n")
    card.get_by_role("button", name="Approve", exact=True).click()
    ended(page)
    assert (folder / "train.py").read_text() == "print('mine')\n"
    shutil.rmtree(folder)
