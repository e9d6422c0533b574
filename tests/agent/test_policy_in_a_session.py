"""Acts that cost, publish or delete, asked for by code in the sandbox: each passes the one gate, once."""

import pytest

from agent.policy import Mode

from . import host_tools
from .conftest import Talking
from .scripted_server import code
from .talking import Talk, until

THREE = """
for call in (lambda: buy("gpu"), lambda: publish("model"), lambda: delete("run")):
    try:
        print("did", call()["text"])
    except Exception as error:
        print("no", error)
"""


def question(talking: Talk) -> dict:
    """The card a person would be shown, once it is there."""
    asked = [event.data for event in talking.events("approval") if event.data["decision"] == "ask"]
    answered = {event.data["id"] for event in talking.events("approval") if event.data["decision"] != "ask"}
    return next((record["card"] for record in asked if record["id"] not in answered), {})


def test_yes_within_a_budget_does_them_all(talk: Talking) -> None:
    talking = talk([code(THREE), "Ok."], mode="yes", max_usd=5)
    assert talking.run().state == "succeeded"
    assert talking.acts() == ["buy gpu", "publish model", "delete run"]
    assert talking.session.gate.money() == {"spent": 1.0, "held": 0.0, "left": 4.0}


def test_deny_refuses_them_all_and_the_code_is_told(talk: Talking) -> None:
    talking = talk([code(THREE), "Ok."], mode="deny")
    assert talking.run().state == "succeeded"
    assert talking.text("output").count("no Not allowed: --deny refuses every") == 3
    assert not talking.acts()


@pytest.mark.parametrize("call", ["buy('gpu')", "publish('model')", "delete('run')", "gamble('on')"])
@pytest.mark.parametrize("around", ["{}", "try:\n    {}\nexcept:\n    pass"])
def test_unattended_the_turn_ends_with_what_was_wanted(talk: Talking, call: str, around: str) -> None:
    talking = talk([code(around.format(call) + "\nprint('after')"), "Ok."], mode="ask", attended=False)
    outcome = talking.run()
    assert (outcome.state, outcome.exit_code) == ("failed", 4)
    assert "nobody is there to approve" in outcome.reason and call.split("'")[1] in outcome.reason
    assert not talking.acts()
    assert talking.events()[-1].data["exit_code"] == 4


def test_yes_without_a_budget_or_a_price_buys_nothing(talk: Talking) -> None:
    talking = talk([code("buy('gpu')"), "Ok."], mode="yes")
    assert talking.run().exit_code == 4
    unpriced = talk([code("gamble('on')"), "Ok."], mode="yes", max_usd=5)
    assert unpriced.run().exit_code == 4
    assert not talking.acts()


def test_a_person_says_yes_and_the_code_goes_on(talk: Talking) -> None:
    talking = talk([code("final_answer(buy('gpu')['text'])")], mode="ask", attended=True)
    turn = talking.start()
    card = until(lambda: question(talking))
    assert (card["what"], card["where"], card["price"]) == ("buy gpu", "shop.example", "at most $1.00")
    until(lambda: talking.store.session(talking.session.id).state == "waiting")
    assert not talking.acts()
    talking.session.approve(card["id"])
    turn.join(20)
    assert talking.outcomes[-1].answer == "bought gpu" and talking.acts() == ["buy gpu"]


def test_a_person_says_no_and_the_reason_reaches_the_code(talk: Talking) -> None:
    talking = talk([code("buy('gpu')"), "I understand."], mode="ask", attended=True)
    turn = talking.start()
    talking.session.refuse(until(lambda: question(talking))["id"], "too dear this month")
    turn.join(20)
    assert talking.outcomes[-1].state == "succeeded" and not talking.acts()
    assert "too dear this month" in talking.server.last_word() and "ToolError" in talking.server.last_word()


def test_a_yes_for_the_session_reaches_as_far_as_its_amount(talk: Talking) -> None:
    source = "for n in range(4):\n    print(buy(f'item {n}')['text'])\nfinal_answer('all')"
    talking = talk([code(source)], mode="ask", attended=True)
    turn = talking.start()
    talking.session.approve(until(lambda: question(talking))["id"], session_usd=3.0)
    again = until(lambda: (card := question(talking)).get("what") == "buy item 3" and card)
    assert len(talking.acts()) == 3
    talking.session.refuse(again["id"])
    turn.join(20)
    assert len(talking.acts()) == 3


def test_the_budget_holds_against_twenty_calls_at_once(talk: Talking) -> None:
    source = """
from concurrent.futures import ThreadPoolExecutor
def one(n):
    try:
        return buy(f"item {n}", usd=1.0)["text"]
    except Exception as error:
        return str(error)
with ThreadPoolExecutor(20) as pool:
    told = list(pool.map(one, range(20)))
print(sum(text.startswith("bought") for text in told), sum("--max-usd" in text for text in told))
"""
    talking = talk([code(source), "Ok."], mode="yes", max_usd=5)
    talking.run()
    assert "5 15" in talking.text("output")
    assert len(talking.acts()) == 5 and talking.session.gate.money()["left"] == 0


def test_the_same_act_twenty_times_at_once_is_done_once(talk: Talking) -> None:
    source = """
from concurrent.futures import ThreadPoolExecutor
def one(n):
    try:
        return buy("the same", seconds=3)["text"]
    except Exception as error:
        return str(error)
with ThreadPoolExecutor(16) as pool:
    told = list(pool.map(one, range(16)))
print(told.count("bought the same"), len(told))
"""
    talking = talk([code(source), "Ok."], mode="yes", max_usd=50)
    talking.run()
    assert talking.acts() == ["buy the same"], talking.text("output")
    assert talking.session.gate.money()["spent"] == 1.0 and talking.session.gate.money()["held"] == 0.0


def test_a_replayed_request_gets_the_result_of_the_first_and_nothing_is_done_again(talk: Talking) -> None:
    source = """
import modelsmith, json, pathlib, time, uuid
from IPython.display import display
number = uuid.uuid4().hex
[folder] = pathlib.Path("/tmp").glob(".calls-*")
for _ in range(5):
    display({modelsmith.CALL: {"id": number, "tool": "buy", "arguments": {"item": "gpu"}}}, raw=True)
while not (folder / number).exists():
    time.sleep(0.01)
time.sleep(0.3)
print(json.loads((folder / number).read_text())["result"]["text"])
"""
    talking = talk([code(source), "Ok."], mode="yes", max_usd=50)
    talking.run()
    assert talking.acts() == ["buy gpu"] and "bought gpu" in talking.text("output")


def test_the_same_act_done_again_after_it_was_finished_is_another_one(talk: Talking) -> None:
    talking = talk([code("buy('gpu'); buy('gpu')"), code("buy('gpu')"), "Ok."], mode="yes", max_usd=50)
    talking.run()
    assert talking.acts() == ["buy gpu"] * 3 and talking.session.gate.money()["spent"] == 3.0


def test_an_act_that_refused_before_spending_costs_nothing_and_may_be_tried_again(talk: Talking) -> None:
    talking = talk([code("sold_out('gpu')"), code("sold_out('gpu')"), "Ok."], mode="yes", max_usd=1)
    talking.run()
    assert [result["error"] for result in talking.results(ok=False)] == ["gpu is sold out."] * 2
    assert talking.session.gate.money() == {"spent": 0.0, "held": 0.0, "left": 1.0}


def test_an_act_that_broke_in_the_middle_keeps_its_reservation_and_is_told_as_unknown(talk: Talking) -> None:
    talking = talk([code("buy_badly('gpu')"), code("buy_badly('gpu')"), "Ok."], mode="yes", max_usd=5)
    talking.run()
    first, second = (result["error"] for result in talking.results(ok=False))
    assert "the shop hung up" in first and "its outcome is not known" in second
    assert talking.acts() == ["buy_badly gpu"]
    assert talking.session.gate.money()["held"] == 1.0


BROKEN = "try:\n    buy_badly('gpu')\nexcept Exception as error:\n    print(error)"


def test_an_act_in_doubt_is_told_once_and_ends_an_unattended_turn_when_it_is_wanted_again(talk: Talking) -> None:
    talking = talk([code(BROKEN)] * 3, mode="yes", max_usd=5)
    outcome = talking.run()
    assert "its outcome is not known" in talking.server.last_word()
    assert (outcome.exit_code, talking.acts()) == (4, ["buy_badly gpu"])
    assert "buy gpu at shop.example" in outcome.reason and "nobody knows whether it was done" in outcome.reason
    again = talking.resumed()
    talking.server.answers.append(code(BROKEN))
    assert again.run("Once more.").exit_code == 4 and again.acts() == ["buy_badly gpu"]
    again.session.executor.cleanup()


def test_an_act_in_doubt_is_done_again_when_a_person_says_so(talk: Talking) -> None:
    talking = talk([code(BROKEN)] * 3 + ["Ok."], mode="yes", attended=True, max_usd=5)
    turn = talking.start()
    card = until(lambda: question(talking))
    assert "may be done twice" in card["note"] and talking.acts() == ["buy_badly gpu"]
    talking.session.approve(card["id"])
    turn.join(20)
    assert talking.outcomes[-1].state == "succeeded" and talking.acts() == ["buy_badly gpu"] * 2
    assert talking.session.gate.money()["held"] == 2.0


def test_what_was_spent_and_allowed_is_known_after_a_resume(talk: Talking) -> None:
    talking = talk([code("buy('gpu', usd=2.0)"), "Ok.", code("buy('cpu', usd=2.0)"), "Ok."], mode="yes", max_usd=3)
    talking.run()
    again = talking.resumed()
    assert again.session.gate.money() == {"spent": 2.0, "held": 0.0, "left": 1.0}
    again.run("Go on.")
    assert again.acts() == ["buy gpu"] and "--max-usd" in again.server.last_word()
    again.session.executor.cleanup()


def test_a_cancel_while_a_person_is_asked_ends_the_turn_and_buys_nothing(talk: Talking) -> None:
    talking = talk([code("buy('gpu')"), code("final_answer('fine')")], mode="ask", attended=True)
    turn = talking.start()
    until(lambda: question(talking))
    talking.session.cancel()
    turn.join(5)
    assert talking.outcomes[-1].state == "cancelled" and not talking.acts()
    assert talking.run("Something else.").answer == "fine"
    assert talking.store.session(talking.session.id).state == "succeeded"


def test_an_answer_that_comes_after_the_cancel_changes_nothing(talk: Talking) -> None:
    talking = talk([code("buy('gpu')")], mode="ask", attended=True)
    turn = talking.start()
    number = until(lambda: question(talking))["id"]
    talking.session.cancel()
    turn.join(5)
    talking.session.approve(number)
    talking.session.bridge.pool.shutdown(wait=True)
    assert not talking.acts()


def test_a_tool_on_the_way_when_the_turn_is_cancelled_is_counted_when_it_ends(talk: Talking) -> None:
    talking = talk([code("buy('gpu', seconds=1.5)"), "Next."], mode="yes", max_usd=5)
    turn = talking.start()
    assert host_tools.started.wait(20)
    talking.session.cancel()
    turn.join(1.4)
    assert talking.outcomes and talking.outcomes[-1].state == "cancelled"
    until(lambda: talking.session.gate.money()["spent"] == 1.0)
    assert talking.resumed(Mode.YES).session.gate.money()["spent"] == 1.0
