"""SIGKILL of the agent at any moment: nothing acknowledged is lost, the session goes on, no act is done twice."""

import json
import multiprocessing
import random
import re
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from agent.policy import Mode
from agent.session import Session
from agent.settings import load_settings
from agent.store import Store

from . import runner
from .scripted_server import ScriptedServer, code
from .talking import until

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.agent.runner"])

STEPS = [
    "open('notes.txt', 'w').write('x'); print('DONE 1')",
    "for n in range(200): print('line', n)\nprint('DONE 2')",
    "print(buy('gpu', seconds=0.2)['text']); print('DONE 3')",
    "print(add(1)['text'], publish('model')['text']); print('DONE 4')",
    "import time; time.sleep(0.2); print('DONE 5')",
]


def planned(messages: list[dict[str, Any]]) -> str:
    """Goes through the steps by what the conversation shows as done; an unknown outcome is taken as done."""
    seen = "\n".join(message["content"] for message in messages if message["role"] == "user")
    done = {int(number) for number in re.findall(r"DONE (\d)", seen)}
    done |= {3 for _ in re.findall(r"buy was begun before", seen)} | {
        4 for _ in re.findall(r"publish was begun before", seen)
    }
    left = [number for number in range(1, len(STEPS) + 1) if number not in done]
    return code(STEPS[left[0] - 1] if left else "final_answer('all done')", f"Step {left[:1]}.")


class Agent:
    """One run of the agent in a process that can be killed."""

    def __init__(self, home: Path, server: ScriptedServer, session: str | None = None):
        self.told = home / f"told-{time.monotonic_ns()}"
        arguments = (str(home), server.url, session, "Do all steps.", str(self.told))
        self.process: BaseProcess = SPAWN.Process(target=runner.run, args=arguments)
        self.process.start()

    def lines(self) -> list[dict[str, Any]]:
        """Whole lines only: the last one may be half written when the process dies."""
        if not self.told.exists():
            return []
        return [json.loads(line) for line in self.told.read_text().split("\n")[:-1]]

    def acknowledged(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if "seq" in line]

    def end(self) -> int | None:
        self.process.join(60)
        return self.process.exitcode


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(planned) as made:
        yield made


def check_and_finish(home: Path, server: ScriptedServer, killed: Agent) -> str:
    """What must hold after the death of an agent, and after its session was taken up again."""
    before = killed.acknowledged()
    name = before[0]["session"]
    with Store.open(home) as store:
        kept = [event.to_dict() for event in store.all(name)]
        assert [event["seq"] for event in kept] == list(range(1, len(kept) + 1))
        assert kept[: len(before)] == before
        ended = store.session(name).state == "succeeded"
        assert not store.running(name)
    again = Agent(home, server, name)
    assert again.end() == 0, again.lines()[-3:]
    assert again.lines()[-1] == {"outcome": "succeeded", "answer": "all done"}
    with Store.open(home) as store:
        events = list(store.all(name))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.to_dict() for event in events][: len(kept)] == kept
        states = [event.data["state"] for event in events if event.type == "state"]
        assert states[-1] == "succeeded" and ("lost" in states) == (not ended)
        money = [event.data for event in events if event.type == "approval"]
        told = " ".join(str(event.data.get("error")) for event in events if event.type == "tool_result")
    acts = (home / "acts.log").read_text().splitlines() if (home / "acts.log").exists() else []
    for act, tool in (("buy gpu", "buy was begun before"), ("publish model", "publish was begun before")):
        assert acts.count(act) <= 1, (acts, money)
        assert acts.count(act) == 1 or tool in told
    return name


def moments(home: Path, server: ScriptedServer, count: int, seed: int) -> None:
    whole = Agent(home, server)
    until(whole.acknowledged)
    begin = time.monotonic()
    assert whole.end() == 0
    length = time.monotonic() - begin
    chosen = random.Random(seed)
    for _ in range(count):
        (home / "acts.log").unlink(missing_ok=True)
        agent = Agent(home, server)
        until(agent.acknowledged)
        time.sleep(chosen.uniform(0, length))  # the moment is the point
        agent.process.kill()
        agent.process.join()
        check_and_finish(home, server, agent)


def test_killed_at_some_moments(own_home: Path, server: ScriptedServer) -> None:
    moments(own_home, server, 3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_fifty_moments(own_home: Path, server: ScriptedServer) -> None:
    moments(own_home, server, 50, seed=2)


def test_killed_in_the_middle_of_a_paid_act_it_is_told_as_unknown_and_not_done_again(own_home: Path) -> None:
    def answer(messages: list[dict[str, Any]]) -> str:
        if "its outcome is not known" in messages[-1]["content"]:
            return code("final_answer('nobody knows')")
        return code("print(buy('gpu', seconds=30)['text'])")

    with ScriptedServer(answer) as server:
        agent = Agent(own_home, server)
        until((own_home / "acts.log").exists)
        agent.process.kill()
        agent.process.join()
        name = agent.acknowledged()[0]["session"]
        again = Agent(own_home, server, name)
        assert again.end() == 0
        assert again.lines()[-1]["answer"] == "nobody knows"
    assert (own_home / "acts.log").read_text() == "buy gpu\n"
    with Store.open(own_home) as store:
        assert "interrupted in the middle" in server.last_word(1)
        held = [event.data["held"] for event in store.all(name) if event.type == "approval"]
    assert 1.0 in held


def test_killed_after_a_paid_act_and_before_the_model_saw_it_the_result_is_given_and_nothing_is_bought(
    own_home: Path,
) -> None:
    def answer(messages: list[dict[str, Any]]) -> str:
        if "bought gpu" in messages[-1]["content"]:
            return code("print(buy('gpu')['text'], 'twice'); final_answer('bought')")
        nap = 60 if len(server.bodies) == 1 else 0
        return code(f"print(buy('gpu')['text'], flush=True); import time; time.sleep({nap})")

    with ScriptedServer(answer) as server:
        agent = Agent(own_home, server)
        until(lambda: any("bought gpu" in line["data"].get("text", "") for line in agent.acknowledged()))
        agent.process.kill()
        agent.process.join()
        again = Agent(own_home, server, agent.acknowledged()[0]["session"])
        assert again.end() == 0
        acts = (own_home / "acts.log").read_text().splitlines()
        assert acts == ["buy gpu", "buy gpu"]  # the second was asked for by a model that knew of the first


def test_who_goes_on_after_a_kill_has_only_the_steps_and_minutes_that_were_left(own_home: Path) -> None:
    def answer(messages: list[dict[str, Any]]) -> str:
        number = len(server.bodies)
        return code(f"print('step', {number}, flush=True)\nimport time; time.sleep({60 if number == 3 else 0})")

    with ScriptedServer(answer) as server:
        agent = Agent(own_home, server)
        until(lambda: any("step 3" in line["data"].get("text", "") for line in agent.acknowledged()))
        agent.process.kill()
        agent.process.join()
        name = agent.acknowledged()[0]["session"]
        settings = load_settings(home=str(own_home), sandbox="embedded", model=server.url, max_steps=5, max_minutes=10)
        with Store.open(own_home) as store:
            for _ in range(2):  # taking it up and leaving it again gives nothing back
                session = Session.resume(settings, store, name, mode=Mode.YES, attended=False)
                assert session.used["steps"] == 3 and 0 < session.used["minutes"] < 2
                session.close()
            session = Session.resume(settings, store, name, mode=Mode.YES, attended=False)
            outcome = session.run("Go on.")
            assert (outcome.state, len(server.bodies)) == ("limit", 5)
            assert "interrupted in the middle" in server.last_word(3)
            assert "counting what was done before the interruption" in outcome.reason
            session.run("Once more, please.")
            assert len(server.bodies) == 10, "a task of its own has all its steps"
            session.close()


def test_a_session_that_runs_elsewhere_cannot_be_taken(own_home: Path) -> None:
    from agent.store import Claimed

    with ScriptedServer(lambda messages: code("import time; time.sleep(20)")) as server:
        agent = Agent(own_home, server)
        until(agent.acknowledged)
        with Store.open(own_home) as store, pytest.raises(Claimed):
            store.claim(agent.acknowledged()[0]["session"])
        agent.process.kill()
        agent.process.join()
        with Store.open(own_home) as store:
            store.claim(agent.acknowledged()[0]["session"]).release()
