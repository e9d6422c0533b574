"""A person at a terminal: real sessions on a pseudo-terminal, with Ctrl-C, questions and conversation."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pexpect

from agent.store import Store
from tests.cli.conftest import Spawn
from tests.conftest import Cli

SLEEP = "run: import time\nprint('beg' + 'un', flush=True)\ntime.sleep(600)"
RENT = "run: print(rent(hours=3)['text'])"
QUESTION = r"\[v\]iew all: "


def ended(child: pexpect.spawn) -> tuple[int | None, str]:
    """The exit code and the rest of what was written."""
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", child.before)


def last_session(home: Path) -> tuple[str, list]:
    with Store.open(home) as store:
        session = store.sessions()[0].id
        return session, list(store.all(session))


def test_a_task_is_shown_as_it_runs_and_ends_with_where_everything_lies(terminal: Spawn, sandboxed: Path) -> None:
    child = terminal("run", "run: print(6 * 7)")
    code, text = ended(child)
    session, _ = last_session(sandboxed)
    assert code == 0
    assert "│ 42" in text and "print(6 * 7)" in text and "• succeeded" in text
    assert f"session  {session}" in text and f"--session {session}" in text


def test_ctrl_c_ends_the_turn_within_a_second_and_leaves_a_session_that_goes_on(
    terminal: Spawn, sandboxed: Path, cli: Cli
) -> None:
    child = terminal("run", SLEEP)
    child.expect("begun")
    pressed = time.monotonic()
    child.sendintr()
    child.expect("cancelled")
    assert time.monotonic() - pressed < 2
    code, _ = ended(child)
    session, events = last_session(sandboxed)
    assert code == 130
    assert events[-1].type == "state" and events[-1].data["state"] == "cancelled"
    again = cli("run", "run: print('still' + ' here')", "--session", session, "--quiet")
    assert (again.returncode, "still here" in again.stdout) == (0, True)


def test_ctrl_c_twice_leaves_at_once_with_130_and_the_cursor_is_back(terminal: Spawn) -> None:
    child = terminal("run", SLEEP)
    child.expect("begun")
    os.kill(child.pid, signal.SIGINT)
    os.kill(child.pid, signal.SIGSTOP)  # so that the second one surely comes before the end of the turn
    os.kill(child.pid, signal.SIGINT)
    os.kill(child.pid, signal.SIGCONT)
    child.expect([r"can be resumed: python -m agent sessions resume [a-z0-9-]+", "cancelled"])
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_a_closed_terminal_cancels_the_turn(terminal: Spawn, sandboxed: Path) -> None:
    child = terminal("run", SLEEP)
    child.expect("begun")
    os.kill(child.pid, signal.SIGHUP)
    assert ended(child)[0] == 130
    assert last_session(sandboxed)[1][-1].data["state"] == "cancelled"


def test_yes_lets_a_paid_call_go_on(terminal: Spawn, sandboxed: Path) -> None:
    child = terminal("run", RENT)
    child.expect(QUESTION)
    card = child.before
    for part in ("rent a machine for 3 hours at rent.example", "at most $6.00", "hours: 3"):
        assert part in card
    child.sendline("y")
    code, text = ended(child)
    assert code == 0 and "rented for 3 hours" in text
    decisions = [event.data["decision"] for event in last_session(sandboxed)[1] if event.type == "approval"]
    assert decisions[:2] == ["ask", "allow"]


def test_no_with_a_reason_reaches_the_session(terminal: Spawn, sandboxed: Path) -> None:
    child = terminal("run", RENT)
    child.expect(QUESTION)
    child.sendline("what?")
    child.expect(QUESTION)
    child.sendline("n too dear")
    ended(child)
    refusal = [event.data for event in last_session(sandboxed)[1] if event.type == "approval"][-1]
    assert (refusal["decision"], refusal["reason"], refusal["by"]) == ("deny", "too dear", "person")


def test_always_asks_no_more_until_its_dollars_are_used_up(terminal: Spawn, sandboxed: Path) -> None:
    child = terminal("run", "run: [rent(hours=1, note=str(n)) for n in range(4)]")
    child.expect(QUESTION)
    child.sendline("a")
    child.expect("how many dollars")
    child.sendline("6")
    child.expect(QUESTION)
    child.sendline("n")
    ended(child)
    records = [event.data for event in last_session(sandboxed)[1] if event.type == "approval"]
    assert [record["decision"] for record in records].count("ask") == 2
    assert len({record["id"] for record in records if record["decision"] == "allow"}) == 3


def test_keys_pressed_before_the_question_are_no_answer(terminal: Spawn, sandboxed: Path) -> None:
    child = terminal("run", "run: import time\nprint('wa' + 'it', flush=True); time.sleep(1)\nrent()")
    child.expect("wait")
    child.sendline("y")
    child.expect(QUESTION)
    child.sendline("n")
    ended(child)
    decisions = [event.data["decision"] for event in last_session(sandboxed)[1] if event.type == "approval"]
    assert decisions == ["ask", "deny"]


def test_ctrl_c_at_a_question_cancels_the_turn(terminal: Spawn, sandboxed: Path) -> None:
    child = terminal("run", RENT)
    child.expect(QUESTION)
    child.sendintr()
    assert ended(child)[0] == 130
    events = last_session(sandboxed)[1]
    assert "allow" not in [event.data.get("decision") for event in events]
    assert events[-1].data["state"] == "cancelled"


def test_the_whole_argument_can_be_read_before_the_answer(terminal: Spawn) -> None:
    child = terminal("run", r"run: rent(note='\n'.join(f'line {n}.' for n in range(200)))")
    child.expect("more lines")
    assert "line 199." not in child.before
    child.expect(QUESTION)
    child.sendline("v")
    child.expect(r"line 199\.")
    child.expect(QUESTION)
    child.sendintr()
    assert ended(child)[0] == 130


def test_a_conversation_keeps_its_state_and_its_history(terminal: Spawn, sandboxed: Path, tmp_path: Path) -> None:
    data = tmp_path / "my data.csv"
    data.write_text("a\n1\n")
    child = terminal("chat")
    child.expect("› ")
    child.sendline("/help")
    child.expect("/resume ID")
    child.sendline("/hlep")
    child.expect("Did you mean /help")
    child.sendline("run: kept = 6 * 7")
    child.expect("succeeded")
    child.sendline(f'run: print("kept", kept, open("my data.csv").read().split()) # @"{data}"')
    child.expect(r"kept 42 \['a', '1'\]")
    child.expect("succeeded")
    child.sendline("/cost")
    child.expect("tokens in")
    session, _ = last_session(sandboxed)
    child.sendline("/new")
    child.expect("new session")
    child.sendline(f"/resume {session[:-1]}")
    child.expect(f"session {session}")
    child.sendline("/file /no/such/file")
    child.expect("error: There is no file /no/such/file")
    child.sendline("/model nonsense")
    child.expect("names no model")
    child.sendline("/quit")
    assert ended(child)[0] == 0
    kept = sandboxed / "chat_history"
    assert kept.stat().st_mode & 0o077 == 0 and "run: kept = 6 * 7" in kept.read_text()
    with Store.open(sandboxed) as store:
        assert len(store.sessions()) == 1


def test_ctrl_c_stops_a_turn_of_a_conversation_and_not_the_conversation(terminal: Spawn) -> None:
    child = terminal("chat")
    child.expect("› ")
    child.sendline("run: import time; print('beg' + 'un', flush=True); time.sleep(600)")
    child.expect("begun")
    child.sendintr()
    child.expect("cancelled")
    child.expect("› ")
    child.sendline("run: print('go' + 'ing on')")
    child.expect("going on")
    child.expect("succeeded")
    child.expect("› ")  # before its prompt a terminal that still collects lines takes Ctrl-D for the end of one
    child.sendeof()
    assert ended(child)[0] == 0


def test_every_event_of_a_run_is_printed_once_in_order(sandboxed: Path, cli: Cli) -> None:
    answer = cli("run", "run: [print(n, flush=True) for n in range(2_000)]", "--json")
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert answer.returncode == 0
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines == [event.to_dict() for event in last_session(sandboxed)[1]]


def test_a_tool_that_does_not_listen_does_not_keep_the_terminal(terminal: Spawn) -> None:
    child = terminal("run", "run: doze(seconds=60)")
    child.expect("▸ doze")
    pressed = time.monotonic()
    child.sendintr()
    code, _ = ended(child)
    assert code == 130 and time.monotonic() - pressed < 5


def test_lists_fit_the_terminal_and_results_are_drawn(terminal: Spawn) -> None:
    _, text = ended(terminal("tools", "list"))
    lines = text.splitlines()
    assert max(map(len, lines)) == 110 and all(line.endswith("…") for line in lines if len(line) == 110)
    code, text = ended(terminal("kernels", "patterns"))
    assert code == 0 and re.search("┃ op +┃", text) and "|---|" not in text
    assert "There are no kernels yet." in ended(terminal("kernels", "list"))[1]
