"""Cancelling in each phase of a turn: it ends as cancelled at once, and the next turn works on a valid history."""

import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from agent.loop.endings import TurnLost

from . import host_tools
from .conftest import Talking
from .scripted_server import Fault, code
from .talking import Talk, until

SOON = 1.5  # seconds; the promise is one


def cancelled(talking: Talk, when: Callable[[], object], within: float = SOON) -> None:
    """Start a turn, cancel it when it has come so far, and see it end."""
    turn = talking.start()
    until(when)
    begin = time.monotonic()
    talking.session.cancel()
    turn.join(within + 10)
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) / 2)  # others that want the processor, too
    assert time.monotonic() - begin < within * busy
    assert talking.failure is None
    outcome = talking.outcomes[-1]
    assert (outcome.state, outcome.exit_code) == ("cancelled", 130)
    assert talking.store.session(talking.session.id).state == "cancelled"


def goes_on(talking: Talk) -> None:
    assert talking.run("Something else.").answer == "fine"
    roles = [message["role"] for message in talking.server.messages()]
    assert roles[0] == "system" and roles[-1] == "user"
    assert all(one != other for one, other in pairwise(roles))
    assert "Something else." in talking.server.last_word()
    talking.check_log()


FINE = code("final_answer('fine')")


def test_while_the_model_has_not_said_a_word(talk: Talking) -> None:
    talking = talk([Fault("hold"), FINE])
    cancelled(talking, talking.server.holding.is_set)
    assert talking.server.dropped.wait(5)
    goes_on(talking)


def test_while_the_model_speaks(talk: Talking) -> None:
    talking = talk([Fault("stall"), FINE])
    cancelled(talking, lambda: talking.server.holding.is_set() and talking.events("thought"))
    assert talking.server.dropped.wait(5)
    goes_on(talking)


def test_while_the_client_waits_to_ask_again(talk: Talking) -> None:
    talking = talk([Fault("500"), Fault("500"), Fault("500"), Fault("500"), FINE])
    cancelled(talking, lambda: len(talking.server.bodies) == 2)
    talking.server.answers = [FINE]
    goes_on(talking)


def test_while_the_conversation_is_summed_up(talk: Talking) -> None:
    def answer(messages: list[dict]) -> str | Fault:
        if "Sum up the work below" in messages[-1]["content"]:
            return Fault("hold")
        if any("Something else." in message["content"] for message in messages):
            return FINE
        return code(f"# {'a long comment ' * 60}\nfor n in range(200): print('{len(messages)}', 'x' * 40)")

    talking = talk(answer, window=8_192)
    cancelled(talking, talking.server.holding.is_set)
    talking.server.answers = [FINE]
    assert talking.run("Something else.").state == "succeeded"


@pytest.mark.parametrize("work", ["import time; time.sleep(60)", "while True: pass", "!sleep 60"])
def test_while_a_cell_runs(talk: Talking, work: str) -> None:
    talking = talk([code("kept = 1"), code(f"print('on')\n{work}"), code("final_answer('fine' if kept else '')")])
    cancelled(talking, lambda: "on" in talking.text("output"))
    goes_on(talking)
    assert "on\n[stopped in the middle: cancelled by the person]" in talking.server.last_word()


def test_while_a_cell_prints_without_end(talk: Talking) -> None:
    talking = talk([code("while True: print('on ' * 20)"), FINE])
    cancelled(talking, lambda: "on" in talking.text("output"), within=3)
    goes_on(talking)


def test_while_a_cell_that_hears_nothing_runs(talk: Talking) -> None:
    deaf = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("on")
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""
    talking = talk([code(deaf), FINE])
    cancelled(talking, lambda: "on" in talking.text("output"), within=6)  # three seconds of grace, then the kernel dies
    goes_on(talking)


@pytest.mark.parametrize("listens", [True, False])
def test_while_a_tool_works(talk: Talking, listens: bool) -> None:
    talking = talk([code(f"slow({30 if listens else 3}, listens={listens})"), FINE])
    cancelled(talking, host_tools.started.is_set)
    goes_on(talking)


def test_while_sixteen_tools_work(talk: Talking) -> None:
    source = "import threading\nfor _ in range(16): threading.Thread(target=slow, args=[20]).start()\nslow(20)"
    talking = talk([code(source), FINE])
    cancelled(talking, lambda: len(talking.events("tool_call")) >= 16)
    goes_on(talking)


def test_while_a_person_is_asked(talk: Talking) -> None:
    talking = talk([code("buy('gpu')"), FINE], mode="ask", attended=True)
    cancelled(talking, lambda: talking.store.session(talking.session.id).state == "waiting")
    goes_on(talking)
    assert not talking.acts()


def test_at_any_moment_of_a_step(talk: Talking) -> None:
    """The moments between the phases: the kernel starts, the cell is sent, its end is on the way."""
    talking = talk(lambda messages: code("print('a'); import time; time.sleep(5)"))
    for number in range(12):
        turn = talking.start(f"turn {number}")
        until(lambda: len(talking.server.bodies) == len(talking.outcomes) + 1)
        time.sleep(number * 0.01)
        begin = time.monotonic()
        talking.session.cancel()
        turn.join(10)
        assert time.monotonic() - begin < SOON + 1 and talking.outcomes[-1].state == "cancelled", number
    talking.server.answers = [FINE]
    goes_on(talking)


def test_when_nothing_runs_it_does_nothing(talk: Talking) -> None:
    talking = talk([FINE, FINE])
    talking.session.cancel()
    assert talking.run("Something else.").answer == "fine"
    talking.session.cancel()
    goes_on(talking)


def test_twice_and_from_many_threads(talk: Talking) -> None:
    talking = talk([code("print('on'); import time; time.sleep(60)"), FINE])
    turn = talking.start()
    until(lambda: "on" in talking.text("output"))
    callers = [threading.Thread(target=talking.session.cancel) for _ in range(8)]
    for caller in callers:
        caller.start()
    turn.join(5)
    assert talking.outcomes[-1].state == "cancelled"
    goes_on(talking)


def test_the_model_is_told_that_its_step_was_stopped(talk: Talking) -> None:
    talking = talk([code("print('on'); import time; time.sleep(60)"), FINE])
    cancelled(talking, lambda: "on" in talking.text("output"))
    goes_on(talking)
    assert "stopped in the middle" in talking.server.last_word()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_turn_that_was_lost_has_only_the_rest_of_its_steps(talk: Talking, elsewhere: bool) -> None:
    naps = iter([0, 60])
    talking = talk(
        lambda messages: code(f"print('at it', flush=True); import time; time.sleep({next(naps, 0)})"), max_steps=4
    )
    turn = talking.start()
    until(lambda: talking.text("output").count("at it") == 2)
    talking.session.stop(TurnLost("the server was stopped"))
    turn.join(20)
    assert talking.outcomes[-1].state == "lost"
    again = talking.resumed() if elsewhere else talking
    assert again.run("Go on.").state == "limit" and len(talking.server.bodies) == 4
    again.session.executor.cleanup()
