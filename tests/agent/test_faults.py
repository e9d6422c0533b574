"""What breaks around a session: the turn ends as what it is or goes on, nothing hangs, and the next turn works."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.models.stream import Timeouts
from agent.store import Store, StoreError

from .conftest import Talking, gone
from .scripted_server import Fault, ScriptedServer, code
from .talking import Talk, open_talk, until

FINE = code("final_answer('fine')")


@pytest.mark.parametrize("kind", ["429", "500", "503"])
def test_a_model_that_is_busy_once_is_asked_again(talk: Talking, kind: str) -> None:
    talking = talk([Fault(kind), FINE])
    assert talking.run().answer == "fine"


@pytest.mark.parametrize(
    "kind, wanted",
    [("429", "rate limit"), ("500", "status 500"), ("401", "key"), ("garbage", "protocol"), ("cut", "broke off")],
)
def test_a_model_that_stays_broken_ends_the_turn_and_the_next_one_works(talk: Talking, kind: str, wanted: str) -> None:
    talking = talk([code("x = 1")] + [Fault(kind)] * 5)
    outcome = talking.run()
    assert (outcome.state, outcome.exit_code) == ("failed", 1) and wanted in outcome.reason
    assert talking.events("answer") == []
    talking.server.answers = [code("final_answer(f'fine {x}')")]
    assert talking.run("Again.").answer == "fine 1"


def test_a_stream_that_broke_once_is_asked_for_again_and_its_half_code_never_runs(talk: Talking) -> None:
    half = Fault("cut", code("open('bad', 'w').write('x')\n" * 20))
    talking = talk([half, code("import os; final_answer(os.path.exists('bad'))")])
    assert talking.run().answer is False


def test_a_model_that_never_begins_to_answer_is_given_up(talk: Talking) -> None:
    talking = talk([Fault("hold"), Fault("hold"), Fault("hold"), FINE])
    talking.session.choice.model.timeouts = Timeouts(first=0.3)  # type: ignore[attr-defined]
    outcome = talking.run()
    assert outcome.state == "failed" and "no answer in" in outcome.reason
    talking.server.answers = [FINE]
    assert talking.run("Again.").answer == "fine"


def test_a_model_that_stops_in_the_middle_is_given_up(talk: Talking) -> None:
    talking = talk([Fault("stall")] * 4)
    talking.session.choice.model.timeouts = Timeouts(stall=0.3)  # type: ignore[attr-defined]
    outcome = talking.run()
    assert outcome.state == "failed" and "broke off" in outcome.reason


def test_a_model_server_that_is_gone_ends_the_turn(talk: Talking) -> None:
    talking = talk([FINE])
    talking.server.http.shutdown()
    talking.server.http.server_close()
    outcome = talking.run()
    assert outcome.state == "failed" and "does not answer" in outcome.reason
    talking.server.http.server_close = talking.server.http.shutdown = lambda: None  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "source", ["import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "import os; os._exit(1)", "exit()"]
)
def test_a_killed_kernel_is_told_and_tools_are_there_again(talk: Talking, source: str) -> None:
    last = code("final_answer([add(1)['got'], 'x' in globals(), open('kept').read()])")
    talking = talk([code("x = 1; open('kept', 'w').write('k')"), code(source), last])
    assert talking.run().answer == [3, False, "k"]
    assert "All variables" in talking.server.last_word()


def test_a_sandbox_killed_between_two_turns_is_replaced_and_told(talk: Talking, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("seven")
    more = tmp_path / "more.txt"
    more.write_text("eight")
    both = code("final_answer(open('data.txt').read() + open('more.txt').read())")
    talking = talk([code("x = 1"), "Done.", both, FINE], cwd=tmp_path)
    talking.run("Set x.", [data])
    old = talking.sandbox.id
    talking.sandbox.close()
    assert talking.run("Print x.", [more]).answer == "seveneight"
    assert talking.sandbox.id != old and "this is a new one" in talking.server.last_word()
    talking.run("And now?")
    assert talking.server.last_word().count("this is a new one") == 0


def test_a_sandbox_killed_within_a_cell_is_replaced_once_and_told(talk: Talking) -> None:
    sleep = code("print('on'); import time; time.sleep(60)")
    talking = talk([sleep, code("final_answer(add(5)['got'])")])
    turn = talking.start()
    until(lambda: "on" in talking.text("output"))
    talking.sandbox.remote.kill()
    turn.join(30)
    assert talking.outcomes[-1].answer == 7
    assert "a new one was opened" in talking.server.last_word()
    assert [event.data["kind"] for event in talking.events("error")] == ["sandbox"]


def test_a_sandbox_that_is_lost_twice_in_a_turn_ends_it(talk: Talking) -> None:
    talking = talk(lambda messages: code("print('on'); import time; time.sleep(60)"))
    turn = talking.start()
    for times in (1, 2):
        until(lambda times=times: talking.text("output").count("on") == times)
        talking.sandbox.remote.kill()
    turn.join(30)
    assert talking.outcomes[-1].state == "failed" and "lost twice" in talking.outcomes[-1].reason
    talking.server.answers = [FINE]
    assert talking.run("Again.").answer == "fine"


def kill_server(talking: Talk) -> None:
    pid = json.loads((talking.settings.home / "sandbox" / "server.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))


def test_a_sandbox_server_killed_within_a_cell_is_started_again(talk_alone: Talking) -> None:
    talking = talk_alone([code("print('on'); import time; time.sleep(60)"), code("final_answer(add(5)['got'])")])
    turn = talking.start()
    until(lambda: "on" in talking.text("output"))
    kill_server(talking)
    turn.join(60)
    assert not turn.is_alive() and talking.failure is None
    assert talking.outcomes[-1].answer == 7, talking.outcomes


@pytest.mark.slow
def test_a_sandbox_server_killed_between_two_turns_is_started_again(talk_alone: Talking) -> None:
    talking = talk_alone([code("x = 1"), "Done.", FINE])
    talking.run()
    kill_server(talking)
    assert talking.run("Again.").answer == "fine"
    assert "this is a new one" in talking.server.last_word()


def test_a_sandbox_whose_disk_is_full_says_so_and_nothing_hangs(talk_alone: Talking) -> None:
    fill = """
import os
try:
    with open("big", "wb") as file:
        while True: file.write(bytes(1 << 20))
except OSError as error:
    print("full:", error)
"""
    empty = "import os; os.remove('big'); final_answer('fine')"
    talking = talk_alone([code(fill), code("print('long ' * 20_000)"), code("add(1)"), code(empty)], sandbox_disk_mb=64)
    turn = talking.start()
    turn.join(60)
    assert not turn.is_alive(), "it hangs"
    assert talking.failure is None and talking.outcomes[-1].answer == "fine", talking.outcomes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full soon."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("when", ["model", "cell", "tool"])
def test_a_full_disk_under_the_log_ends_the_turn_and_loses_nothing(
    shared_home: Path, small_disk: Path, when: str
) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    return

    def answer(messages: list[dict]) -> str:
        if len(server.bodies) == 2 and when == "model":
            fill()
        if len(server.bodies) == 2 and when != "model":
            threading.Timer(0.2, fill).start()
        work = "for n in range(100_000): print('line', n)" if when == "cell" else "for n in range(20_000): add(n)"
        return code("print('first')" if len(server.bodies) == 1 else work)

    with ScriptedServer(answer) as server:
        talking = open_talk(shared_home, server)
        talking.session.close()
        talking.store.close()
        talking.store = Store.open(small_disk)
        talking.session = type(talking.session).start(
            talking.settings, talking.store, mode=talking.session.gate.mode, attended=False, cwd=shared_home
        )
        turn = talking.start()
        turn.join(60)
        assert not turn.is_alive(), "it hangs"
        assert isinstance(talking.failure, StoreError) and talking.failure.kind == "full"
        kept = talking.events()
        assert "first" in talking.text("output") and [event.seq for event in kept] == list(range(1, len(kept) + 1))
        filler.unlink()
        server.answers = [FINE]
        again = talking.resumed()
        assert again.run("Again.").answer == "fine"
        assert again.events()[: len(kept)] == kept
        again.session.executor.cleanup()
        again.check_log()
        again.store.close()


def test_an_event_that_cannot_be_stored_gives_way_to_a_note(talk: Talking) -> None:
    talking = talk([FINE])
    talking.session.emit("artifact", {"path": "x" * 17_000_000, "kind": "file"})
    talking.session.emit("artifact", {"path": {1, 2}, "kind": "file"})
    assert [event.data["kind"] for event in talking.events("error")] == ["store", "store"]
    assert talking.run().answer == "fine"


def test_many_threads_and_processes_of_the_model_s_code_end_with_the_sandbox(talk: Talking) -> None:
    source = "import subprocess\nfor _ in range(20): subprocess.Popen(['sleep', '300.5'])\nfinal_answer('fine')"
    talking = talk([code(source)])
    assert talking.run().answer == "fine"
    talking.session.executor.cleanup()
    listing = ["ps", "-eo", "args"]
    until(lambda: "sleep 300.5" not in subprocess.run(listing, capture_output=True, text=True, check=True).stdout)
