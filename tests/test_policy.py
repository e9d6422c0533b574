"""The gate: modes, offline, budgets that hold under parallel calls, approvals, replays, a resume in the middle."""

import json
import random
import threading
from dataclasses import replace

import pytest

from agent.events import problems
from agent.policy import Allow, Ask, Budget, Deny, Gate, Mode, Request, Risk, leaves


def call(id: str = "r1", risk: str = "paid", usd=1.0, usd_max=None, **more) -> Request:
    if risk != "paid" and usd == 1.0:
        usd = None
    more.setdefault("where", "https://jobs.example.org")
    return Request(id, more.pop("tool", "train"), more.pop("arguments", {"a": 1}), Risk(risk), "train it", usd=usd,
                   usd_max=usd_max, **more)  # fmt: skip


@pytest.mark.parametrize("risk", ["free", "network"])
@pytest.mark.parametrize("mode", list(Mode))
def test_what_costs_nothing_and_changes_nothing_passes_in_every_mode(risk, mode):
    assert isinstance(Gate(mode, attended=False).decide(call(risk=risk)), Allow)


@pytest.mark.parametrize("risk", ["paid", "publish", "destructive"])
def test_what_cannot_be_taken_back_asks_a_person_or_ends_the_run_or_is_refused(risk):
    request = call(risk=risk, usd=1.0 if risk == "paid" else None)
    asked = Gate(Mode.ASK).decide(request)
    assert isinstance(asked, Ask)
    assert (
        asked.card["what"] == "train it"
        and asked.card["where"] == request.where
        and asked.card["arguments"] == {"a": 1}
    )
    alone = Gate(Mode.ASK, attended=False).decide(request)
    assert isinstance(alone, Deny) and alone.needs_approval and "train it" in alone.reason and "--yes" in alone.reason
    refused = Gate(Mode.DENY).decide(request)
    assert isinstance(refused, Deny) and not refused.needs_approval and "--deny" in refused.reason


def test_a_price_makes_a_free_tool_paid():
    assert isinstance(Gate(Mode.ASK).decide(call(risk="free", usd=0.5)), Ask)
    assert isinstance(Gate(Mode.ASK).decide(call(risk="network", usd_max=0.5)), Ask)


def test_yes_spends_within_a_budget_and_only_then():
    gate = Gate(Mode.YES, Budget(max_usd=2.0))
    assert isinstance(gate.decide(call("a", usd=0.5, usd_max=1.5)), Allow)
    over = gate.decide(call("b", usd=0.6))
    assert isinstance(over, Deny) and over.limit and "$0.50 left" in over.reason
    assert isinstance(gate.decide(call("c", usd=0.5)), Allow), "exactly what is left"
    blank = Gate(Mode.YES).decide(call())
    assert isinstance(blank, Deny) and blank.needs_approval and "--max-usd" in blank.reason
    assert isinstance(Gate(Mode.YES).decide(call(usd=0.0)), Allow), "one's own machines cost nothing"


def test_an_unknown_price_is_asked_or_denied_and_never_taken_for_nothing():
    budget = Budget(max_usd=10)
    assert isinstance(Gate(Mode.ASK, budget).decide(call(usd=None)), Ask)
    denied = Gate(Mode.YES, budget).decide(call(usd=None))
    assert isinstance(denied, Deny) and denied.needs_approval and "unknown" in denied.reason
    gate = Gate(Mode.ASK, budget)
    gate.decide(call("x", usd=None))
    assert isinstance(gate.approve("x"), Allow)
    assert gate.money() == {"spent": 0, "held": 10, "left": 0}, "it may cost all that is left"
    assert gate.decide(call("y", usd=0.01)).limit
    gate.settle("x", None)
    assert gate.money()["held"] == 10 and gate.unsettled()[0]["id"] == "x"
    gate.settle("x", 4.0)
    assert gate.money() == {"spent": 4, "held": 0, "left": 6} and not gate.unsettled()


def test_a_settled_price_frees_what_was_reserved_and_an_overrun_counts():
    gate = Gate(Mode.YES, Budget(max_usd=3))
    gate.decide(call("a", usd=1, usd_max=3))
    assert gate.money()["left"] == 0
    gate.settle("a", 1.25, {"job": 7})
    assert gate.money()["left"] == 1.75
    gate.settle("a", 0.0)
    assert gate.money()["spent"] == 1.25, "the first settlement stands"
    gate.decide(call("b", usd=1))
    gate.settle("b", 5.0)
    assert gate.money()["left"] == -3.25 and gate.decide(call("c", usd=0.01)).limit
    with pytest.raises(ValueError):
        gate.settle("c", 0)
    with pytest.raises(ValueError):
        gate.settle("a", -5)


@pytest.mark.parametrize("usd", [-1.0, float("nan"), float("inf")])
def test_a_senseless_price_is_no_request(usd):
    with pytest.raises(ValueError):
        call(usd=usd)
    with pytest.raises(ValueError):
        call(usd=1, minutes=usd)


HERE = ["127.0.0.1:8000", "http://localhost:3000/x", "http://[::1]/", "/data/x", "./runs/a", "file:///x", "127.8.9.1"]
ELSEWHERE = [
    r"huggingface.co",
    r"https://huggingface.co/x",
    r"http://127.0.0.1@evil.org/",
    r"user/repo",
    r"http://localhost.evil.org",
    r"127.0.0.1.nip.io",
    r"hf://datasets/x",
    r"0.0.0.0",
    r"//nas/share",
    r"http://[x",
    r"file://nas/x",
    r"http://127.0.0.1\@evil.org",
    r"10.0.0.1",
]


@pytest.mark.parametrize("where", [*HERE, "this machine"])
def test_offline_lets_loopback_and_this_machine_pass(where):
    gate = Gate(Mode.YES, Budget(max_usd=1), offline=True)
    assert isinstance(gate.decide(call("n", risk="network", where=where)), Allow)
    assert isinstance(gate.decide(call("d", risk="destructive", where=where)), Allow)


@pytest.mark.parametrize("where", [*ELSEWHERE, ""])
@pytest.mark.parametrize("risk", ["network", "paid", "publish", "destructive"])
def test_offline_refuses_whatever_leaves_and_says_why(where, risk):
    decision = Gate(Mode.ASK, offline=True).decide(call(risk=risk, where=where))
    assert isinstance(decision, Deny) and "--offline" in decision.reason and not decision.needs_approval


def test_a_tool_declared_free_does_not_slip_out_either():
    assert leaves(Risk.FREE, "https://example.org") and not leaves(Risk.FREE, "")


def test_a_replay_gets_the_first_decision_and_its_result_and_never_executes():
    gate = Gate(Mode.YES, Budget(max_usd=5))
    first = gate.decide(call("a"))
    assert first.execute
    running = gate.decide(call("a"))
    assert isinstance(running, Allow) and not running.execute and not running.finished
    gate.settle("a", 0.9, {"job": 1})
    done = gate.decide(call("a"))
    assert not done.execute and done.finished and done.result == {"job": 1}
    other = gate.decide(replace(call("a"), arguments={"a": 2}))
    assert isinstance(other, Deny) and "different call" in other.reason
    assert gate.decide(call("a")).finished, "the impostor changed nothing"
    assert gate.money()["spent"] == 0.9
    denied = [gate.decide(call("b", usd=9)) for _ in range(3)]
    assert denied[0] == denied[1] == denied[2]


def test_an_answer_of_a_person_stands_and_the_budget_is_looked_at_again():
    gate = Gate(Mode.ASK, Budget(max_usd=1.5))
    assert gate.decide(call("a")) == gate.decide(call("a")), "asked once"
    gate.decide(call("b"))
    assert gate.approve("a").execute
    assert not gate.approve("a").execute and not gate.refuse("a").execute
    late = gate.approve("b")
    assert isinstance(late, Deny) and late.limit
    gate.decide(call("c", usd=0.1))
    assert gate.refuse("c", "use the small one").reason == "use the small one"
    assert gate.approve("c").reason == "use the small one"
    with pytest.raises(KeyError):
        gate.approve("never asked")


def test_a_yes_for_the_session_covers_its_kind_up_to_its_amount():
    gate = Gate(Mode.ASK)
    gate.decide(call("a"))
    gate.approve("a", session_usd=2.5)
    assert isinstance(gate.decide(call("b")), Allow)
    assert isinstance(gate.decide(call("c")), Ask), "it would be 3.00"
    gate.settle("b", 0.5)
    assert isinstance(gate.decide(call("d")), Allow), "b was cheaper than reserved"
    assert isinstance(gate.decide(call("e", tool="other", usd=0.1)), Ask)
    assert isinstance(gate.decide(call("f", usd=None)), Ask), "an unknown price is not under any amount"
    gate.decide(call("g", risk="publish", where="hub/one"))
    gate.approve("g", session_usd=0)
    assert isinstance(gate.decide(call("h", risk="publish", where="hub/one", arguments={"x": 2})), Allow)
    assert isinstance(gate.decide(call("i", risk="publish", where="hub/two")), Ask)


def test_minutes_are_compared_with_what_is_left_and_steps_are_counted():
    gate = Gate(Mode.YES, Budget(max_usd=9, max_minutes=60, max_steps=3))
    assert gate.progress(steps=1, minutes=20) is None
    assert isinstance(gate.decide(call("a", minutes=40)), Allow)
    assert isinstance(gate.decide(call("b", minutes=40)), Allow), "two jobs at once take no longer"
    assert gate.decide(call("c", minutes=41)).limit
    assert gate.progress(steps=1) is None and "--max-steps" in gate.progress(steps=1)
    assert "--max-minutes" in Gate(Mode.YES, Budget(max_minutes=1)).progress(minutes=1)


def test_each_turn_has_its_own_steps_and_minutes_but_what_an_interrupted_one_used_is_counted():
    gate = Gate(Mode.YES, Budget(max_minutes=10, max_steps=3))
    assert "--max-steps" in gate.progress(steps=3)
    gate.new_turn()
    assert gate.progress(steps=2) is None
    gate.new_turn(steps=2, minutes=9)
    assert isinstance(gate.decide(call("a", usd=0.0, minutes=1)), Allow)
    assert gate.decide(call("b", usd=0.0, minutes=2)).limit
    assert "counting what was done before the interruption" in gate.progress(steps=1)
    gate.new_turn()
    assert gate.progress() is None


@pytest.mark.parametrize("risk", ["paid", "publish", "destructive"])
@pytest.mark.parametrize("mode", [Mode.YES, Mode.ASK])
def test_a_call_in_doubt_passes_only_with_a_persons_yes_also_after_a_resume(risk, mode):
    budget = Budget(max_usd=100)
    gate = Gate(Mode.YES, budget)
    records = [gate.decide(call("a", risk)).record, gate.decide(call("b", risk)).record]
    records.append(gate.doubt("b", "begun, and nobody knows"))
    again = Gate.from_state({"records": json.loads(json.dumps(records))}, mode, budget, attended=True)
    assert again.money()["held"] == (1 if risk == "paid" else 0), "the first one's reservation alone"
    asked = again.decide(call("c", risk))
    assert isinstance(asked, Ask) and "may be done twice" in asked.card["note"]
    assert again.decide(call("d", risk, arguments={"a": 2})) is not None
    alone = Gate.from_state({"records": records}, mode, budget, attended=False).decide(call("c", risk))
    assert isinstance(alone, Deny) and alone.needs_approval and "nobody knows whether it was done" in alone.reason
    again.refuse("c")
    assert isinstance(again.decide(call("e", risk)), Ask), "a no settles nothing"
    assert again.approve("e", session_usd=50).execute
    assert isinstance(again.decide(call("f", risk)), Ask), "not even a yes for the session covers it before it was done"
    again.settle("e", 1.0, {"ok": True})
    assert isinstance(again.decide(call("g", risk)), Allow)


def test_a_resumed_gate_knows_money_answers_and_what_never_reported_back():
    gate = Gate(Mode.ASK, Budget(max_usd=10))
    log = [gate.decide(call(name)).record for name in "abcd"]
    log += [gate.approve("a", session_usd=5).record, gate.approve("b").record, gate.refuse("c", "no").record]
    log.append(gate.settle("a", 0.5, "done"))
    gate.progress(steps=4, minutes=2)
    for state in (gate.to_state(), {"records": log}):
        again = Gate.from_state(json.loads(json.dumps(state)), Mode.ASK, Budget(max_usd=10))
        assert again.money() == gate.money() == {"spent": 0.5, "held": 1.0, "left": 8.5}
        assert again.decide(call("a")).result == "done"
        lost = again.decide(call("b"))
        assert not lost.execute and not lost.finished, "it may have happened: never again by itself"
        assert [e["id"] for e in again.unsettled()] == ["b"]
        assert again.decide(call("c")).reason == "no"
        assert isinstance(again.decide(call("d")), Ask) and again.approve("d").execute
        assert isinstance(again.decide(call("e", usd=2.5)), Allow), "the session's yes came back: 0.5 + 1 + 1 + 2.5 = 5"
        assert isinstance(again.decide(call("f", usd=0.1)), Ask)


def test_each_record_is_a_documented_approval_event():
    gate = Gate(Mode.ASK, Budget(max_usd=9), offline=False)
    records = [gate.decide(call("a")).record, gate.decide(call("b")).record, gate.approve("a", session_usd=3).record]
    records += [gate.refuse("b").record, gate.settle("a", 1.0, {"x": 1}), gate.decide(call("c", usd=99)).record]
    for record in records:
        assert problems("approval", json.loads(json.dumps(record))) == []


@pytest.mark.parametrize("seed", range(5))
def test_parallel_requests_never_exceed_the_budget_nor_execute_twice(seed):
    gate, executed, guard = Gate(Mode.YES, Budget(max_usd=5)), [], threading.Lock()
    worst = [0.0]
    start = threading.Barrier(8)

    def work(n: int) -> None:
        dice = random.Random(seed * 100 + n)
        start.wait()
        for _ in range(150):
            number = dice.randrange(400)
            most = random.Random(number).choice([0.01, 0.1, 0.35, 1.0])
            decision = gate.decide(call(f"r{number}", usd=most / 2, usd_max=most))
            money = gate.money()
            with guard:
                worst[0] = max(worst[0], money["spent"] + money["held"])
                if isinstance(decision, Allow) and decision.execute:
                    executed.append(number)
            if isinstance(decision, Allow) and decision.execute and dice.random() < 0.7:
                gate.settle(f"r{number}", dice.choice([0.0, most / 3, most, None]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(executed) == len(set(executed)) > 5
    assert worst[0] <= 5 + 1e-9
    assert worst[0] > 4, "the budget was really fought for"
