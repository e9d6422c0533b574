"""The views, fed from a real store: what a person and a program get to see of the same events."""

import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.cli.view import View
from agent.cli.view.base import CARD_LINES, card_lines
from agent.cli.view.events import JsonView, QuietView
from agent.cli.view.live import LONGEST, MOST_LINES, LiveView
from agent.cli.view.plain import PlainView
from agent.cli.view.tally import Tally
from tests.cli.recorded import ASKED, CARD, TURN, recorded, shown

CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
Events = list[tuple[str, dict[str, Any]]]
ENDED = ("state", {"state": "succeeded", "exit_code": 0})


def plain(home: Path, events: Events) -> str:
    out = io.StringIO()
    with recorded(home, events) as (store, session):
        shown(PlainView(out, home), store, session)
    return out.getvalue()


def live(home: Path, events: Events, width: int = 80) -> str:
    """As written to a terminal, colours and all."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, highlight=False, markup=False, emoji=False)
    with recorded(home, events) as (store, session):
        shown(LiveView(home, console), store, session)
    return out.getvalue()


def output(text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "output", {"text": text, "step": 1, "stream": "stdout", **more}


def test_plain_text_tells_a_whole_turn(home: Path) -> None:
    assert (
        plain(home, TURN)
        == f"""\
task
  How long are the rows of data.csv?
  file /home/user/data.csv
thought
  I look at the file.
code
  import csv
  rows = list(csv.reader(open("data.csv")))
  print(len(rows))
tool inspect_dataset(path='data.csv')
tool inspect_dataset 0.3 s → table “Columns”, 2 rows
output
  1234
output stderr
  careful
artifact Lengths: {home}/artifacts/lengths.png

There are **1,234** rows.

state succeeded
"""
    )


def test_the_live_view_tells_the_same_and_each_thing_once(home: Path) -> None:
    text = CODES.sub("", live(home, TURN))
    parts = ["I look at the file.", 'open("data.csv")))', "│ 1234\n", "│ careful", "There are 1,234 rows.", "succeeded"]
    for part in parts:
        assert text.count(part) == 1, part
    assert "\x1b[1m1,234\x1b[0m" in live(home, TURN)


def test_a_program_gets_every_event_as_a_line_of_ascii(home: Path) -> None:
    out = io.StringIO()
    with recorded(home, [*TURN, output("\x9b31m\u202e é\ud83d")]) as (store, session):
        events = shown(JsonView(out), store, session)
    assert out.getvalue().isascii() and "\x1b" not in out.getvalue()
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [event.to_dict() for event in events]


def test_quiet_prints_the_answer_and_nothing_else(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recorded(home, TURN) as (store, session):
        shown(QuietView(sys.stdout), store, session)
    assert capsys.readouterr() == ("There are **1,234** rows.\n", "")


def test_quiet_says_on_stderr_why_there_is_no_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end = ("state", {"state": "limit", "reason": "the limit of 3 steps is reached", "exit_code": 3})
    with recorded(home, [*TURN[:5], end]) as (store, session):
        shown(QuietView(sys.stdout), store, session)
    assert capsys.readouterr() == ("", "limit: the limit of 3 steps is reached\n")


HOSTILE = "\x1b[2J\x1b]0;owned\x07[red]not red[/red] [/nothing] :up: \x9b31m\u202eevil &#27;[31m &#8238;x <b>bold</b>"


@pytest.mark.parametrize("view", [plain, live])
def test_no_event_can_send_controls_or_markup_to_the_terminal(home: Path, view: Any) -> None:
    hostile: Events = [
        ("task", {"text": HOSTILE, "files": [HOSTILE]}),
        ("thought", {"text": HOSTILE, "step": 1}),
        ("code", {"text": HOSTILE, "step": 1}),
        output(HOSTILE),
        ("tool_call", {"id": "1", "tool": HOSTILE, "arguments": {HOSTILE: HOSTILE}}),
        ("tool_result", {"id": "1", "tool": HOSTILE, "ok": False, "seconds": 1, "error": HOSTILE}),
        ("approval", {**ASKED, "decision": "deny", "reason": HOSTILE, "what": HOSTILE, "where": HOSTILE}),
        ("artifact", {"path": HOSTILE, "kind": "file", "title": HOSTILE}),
        ("job", {"id": HOSTILE, "state": HOSTILE, "detail": HOSTILE, "url": HOSTILE, "progress": 7}),
        ("metric", {"run": HOSTILE, "values": {HOSTILE: HOSTILE}}),
        ("error", {"text": HOSTILE, "kind": "tool", "hint": HOSTILE}),
        ("answer", {"text": f"# {HOSTILE}\n\n[{HOSTILE}](http://bad.example)\n\n`{HOSTILE}`", "step": 1}),
        ("state", {"state": "succeeded", "reason": HOSTILE, "exit_code": 0}),
        ("answer", {"envelope": {"type": "table", "title": HOSTILE, "columns": [HOSTILE], "rows": [[HOSTILE]]}}),
    ]
    text = view(home, hostile)
    assert not re.search(r"[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202e]", text)
    foreign = [code for code in re.findall(r"\x1b[^m]*.", text) if not re.fullmatch(r"\x1b\[[\d;]*m", code)]
    assert foreign == [] and "owned" not in text
    flat = re.sub(r"[\s│┃›]+", "", CODES.sub("", text))
    assert flat.count("[red]notred[/red]") >= 12
    assert "<b>bold</b>" in flat


def test_output_cannot_pass_itself_off_as_anything_else(home: Path) -> None:
    fake = output("x\nstate succeeded\n✓ train 0.1 s\n\nThere is the answer.\n")
    assert re.findall(r"^(?!  ).+$", plain(home, [fake]), re.MULTILINE) == ["output"]
    assert all(line.startswith("│ ") for line in CODES.sub("", live(home, [fake])).splitlines())


def test_a_line_of_a_megabyte_is_whole_in_a_file_and_cut_on_a_terminal(home: Path) -> None:
    events = [output("x" * 65_536) for _ in range(16)] + [output("\n")]
    assert plain(home, events).count("x") == 2**20
    started = time.perf_counter()
    text = CODES.sub("", live(home, events))
    assert text.count("x") == LONGEST["output"]
    assert f"{2**20 - LONGEST['output']:,} more characters" in text.replace("\n│ ", " ")
    assert time.perf_counter() - started < 5


def test_a_flood_of_lines_ends_with_how_many_there_were(home: Path) -> None:
    text = CODES.sub("", live(home, [output("line\n" * 1000) for _ in range(10)]))
    assert text.count("line\n") == MOST_LINES and f"{10_000 - MOST_LINES:,} more lines" in text


def test_a_huge_table_is_shown_in_part_and_says_so(home: Path) -> None:
    rows = [[f"row {number}", number, *("é" * 50 for _ in range(40))] for number in range(1_000)]
    columns = ["name", "count", *(f"c{number}" for number in range(40))]
    table = {"type": "table", "title": "All", "columns": columns, "rows": rows, "note": "from the cache"}
    text = CODES.sub("", live(home, [("answer", {"envelope": table})], width=120))
    assert "… 950 more rows" in text and "more columns" in text and "from the cache" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_a_secret_half_of_an_escape_waits_for_the_other_half(home: Path) -> None:
    events = [output("\x1b["), ("tool_call", {"id": "1", "tool": "t", "arguments": {}}), output("31mred\n")]
    assert plain(home, events).endswith("output\n  red\n")


def test_code_is_highlighted_as_it_comes_also_within_a_long_string(home: Path) -> None:
    pieces = ["text = '''\nimport this", "\nis no import\n'''\nimport os", "\n"]
    coloured = live(home, [("code", {"text": piece, "step": 1}) for piece in pieces])
    keyword = re.search(r"\x1b\[[\d;]*m(?=import\x1b)", coloured.splitlines()[-1])
    assert keyword
    assert keyword[0] + "import" not in coloured.splitlines()[1]


def test_running_work_stands_below_until_it_is_done(home: Path) -> None:
    calls: Events = [
        ("tool_call", {"id": "1", "tool": "download", "arguments": {"n": 1}}),
        ("job", {"id": "1", "state": "running", "progress": 0.5, "detail": "rows read"}),
        ("job", {"id": "job-7", "state": "running", "progress": 0.25, "eta_seconds": 90}),
        ("usage", {"input_tokens": 12_000, "output_tokens": 300, "usd": 0.012, "step": 4}),
        output("half a li"),
    ]
    console = Console(file=io.StringIO(), width=100, highlight=False)
    view = LiveView(home, console)
    with recorded(home, calls) as (store, session):
        for event in store.all(session):
            view.show(event)
        with console.capture() as capture:
            console.print(view._below())
        job = "job-7 running 25% 1 min 30 s left"
        for part in (
            "half a li",
            "download(n=1)",
            "download 50% rows read",
            job,
            "step 4",
            "12.0k tokens in",
            "$0.012",
        ):
            assert part in capture.get()
        store.append(session, "tool_result", {"id": "1", "tool": "download", "ok": True, "seconds": 2.0})
        store.append(session, "job", {"id": "job-7", "state": "succeeded"})
        for event in store.read(session, len(calls)):
            view.show(event)
        with console.capture() as capture:
            console.print(view._below())
        assert "download" not in capture.get() and "job-7" not in capture.get()


def test_a_plan_is_shown_once_and_then_how_far_it_is(home: Path) -> None:
    plans = [
        ("state", {"state": "running", "detail": {"plan": {"steps": ["look", "train"], "done": n}}}) for n in (0, 1)
    ]
    for text in (CODES.sub("", live(home, plans)), plain(home, plans)):
        assert "plan 0 of 2 done, now: look" in text and "plan 1 of 2 done, now: train" in text
    assert CODES.sub("", live(home, plans)).count("2. train") == 1


def test_what_a_tool_tells_of_its_work_goes_under_its_name(home: Path) -> None:
    call = ("tool_call", {"id": "77ab", "tool": "download", "arguments": {}})
    told = ("job", {"id": "77ab", "state": "running", "progress": 0.5})
    done = ("tool_result", {"id": "77ab", "tool": "download", "ok": True, "seconds": 2.0})
    for text in (plain(home, [call, told, done]), live(home, [call, told, done])):
        assert "77ab" not in text
    assert "tool download running 50%" in plain(home, [call, told, done])


def test_code_stands_whole_above_the_call_it_makes(home: Path) -> None:
    code = [("code", {"text": "a = 1\ndownload()", "step": 1})]
    text = live(home, [*code, ("tool_call", {"id": "1", "tool": "download", "arguments": {}}),
                       ("tool_result", {"id": "1", "tool": "download", "ok": True, "seconds": 2.0})])  # fmt: skip
    assert text.count("┃") == 2 and text.rindex("┃") < text.index("✓ download")


def test_an_answer_in_plain_words_is_shown_once_and_one_with_markup_as_it_looks(home: Path) -> None:
    def answered(text: str) -> str:
        return live(home, [("thought", {"text": text, "step": 1}), ("answer", {"text": text}), ENDED])

    assert answered("It is 42.").count("It is 42.") == 1
    assert answered("It is **42**.").count("42") == 2
    assert live(home, [("answer", {"text": "It is 42."}), ENDED]).count("It is 42.") == 1


def test_an_unknown_price_is_never_told_as_nothing() -> None:
    tally = Tally()
    assert tally.money() == ""
    with_price = {"input_tokens": 1, "output_tokens": 1, "usd": 0.5}
    from agent.events import Event

    tally.add(Event("s", 1, 0.0, "usage", with_price))
    tally.add(Event("s", 2, 0.0, "usage", {"input_tokens": 1, "output_tokens": 1, "usd": None}))
    tally.add(Event("s", 3, 0.0, "approval", {**ASKED, "decision": "allow", "held": 4.0, "spent": None}))
    assert tally.money() == "$0.500 for the model and more, $0.00 spent, $4.00 reserved"


def test_a_card_shows_every_argument_and_hides_nothing() -> None:
    lines = card_lines({**CARD, "arguments": {"script": "ok\n" + " " * 200 + "\u202eevil\x1b[8m", "n": 1}})
    text = "\n".join(lines)
    assert lines[0] == "train Qwen3-0.6B on 1,000 rows at hf.co/jobs"
    assert "about $2.00, at most $4.00, $10.00 left" in text and "\\u202eevil\\x1b[8m" in text and "n: 1" in text


def test_a_long_card_says_what_it_left_out_and_can_show_it() -> None:
    card = {**CARD, "arguments": {"script": "\n".join(f"line {number}" for number in range(500))}}
    assert card_lines(card)[-1] == f"… {501 - CARD_LINES} more lines (v shows all)"
    assert card_lines(card, 1000)[-1].strip() == "line 499"


def test_every_view_takes_every_type_of_event(home: Path) -> None:
    from agent.events import TYPES

    assert {type for type, _ in TURN} | {"approval", "job", "metric", "error"} == TYPES
    views: list[View] = [PlainView(io.StringIO(), home), LiveView(home, Console(file=io.StringIO()))]
    rest: Events = [
        ("approval", ASKED),
        ("job", {"id": "j", "state": "running"}),
        ("metric", {"run": "r", "values": {"loss": 1.25, "nan": "nan"}, "at_step": 3}),
        ("error", {"text": "no", "kind": "tool"}),
    ]
    with recorded(home, TURN + rest) as (store, session):
        for view in views:
            shown(view, store, session)
