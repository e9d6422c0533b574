"""Fifty sessions at once in one process: each has its own answers, variables, events and costs."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from .scripted_server import ScriptedServer, code
from .talking import Talk, open_talk


def go_through(talking: Talk, number: int) -> None:
    for turn in (1, 2):
        outcome = talking.run(f"I am {number}, turn {turn}.")
        assert outcome.answer == [number, turn, number + turn], (number, outcome)


def answers(number: int) -> list[str]:
    return [
        code(f"mine = {number}; print('number', mine)"),
        code("got = add(mine, 1)['got']; print(buy(f'for {mine}')['text'])"),
        code("final_answer([mine, 1, got])"),
        code("got = add(mine, 2)['got']; print('number', mine)"),
        code("final_answer([mine, 2, got])"),
    ]


def many(home: Path, count: int) -> None:
    with ExitStack() as stack:
        talks = []
        for number in range(count):
            server = stack.enter_context(ScriptedServer(answers(number)))
            made = open_talk(home, server, max_usd=1, sandbox_max=count, sandbox_memory_mb=512)
            stack.callback(made.store.close)
            stack.callback(made.session.executor.cleanup)
            talks.append(made)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(go_through, talks, range(count)))
        for number, talking in enumerate(talks):
            talking.check_log()
            assert {line for line in talking.text("output").splitlines() if line.startswith("number")} == {
                f"number {number}"
            }
            assert f"bought for {number}\n" in talking.text("output")
            assert talking.session.gate.money()["spent"] == 1.0
            assert all(f"I am {number}," in talking.server.messages(n)[1]["content"] for n in range(5))
    assert sorted((home / "acts.log").read_text().splitlines()) == sorted(f"buy for {n}" for n in range(count))


def test_eight_sessions_at_once_are_not_mixed(own_home: Path) -> None:
    many(own_home, 8)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_sessions_at_once_are_not_mixed(own_home: Path) -> None:
    many(own_home, 50)
