"""The event table is what it says, and streamed pieces become few events without losing or leaking a character."""

import threading
import time

import pytest

from agent.events import FIELDS, LARGEST_PIECE, STREAMED, TYPES, Coalescer, Event, problems
from agent.redact import Redactor

TOKEN = "hf_" + "Ab1" * 12
SAMPLES = {str: "x", int: 1, dict: {"a": 1}, list: ["a"], bool: True, float: 0.5}


def sample(kinds):
    first = kinds[0] if isinstance(kinds, tuple) else kinds
    return SAMPLES[first]


class Sink:
    """Takes batches like the store; can be told to refuse."""

    def __init__(self):
        self.items, self.batches, self.refuse, self.arrived = [], 0, False, threading.Event()

    def __call__(self, items):
        if self.refuse:
            raise OSError("no space")
        self.items += items
        self.batches += 1
        self.arrived.set()

    def text(self, type, **match):
        return "".join(d["text"] for t, d in self.items if t == type and match.items() <= d.items())


def test_the_types_are_the_contract():
    told = "task thought code output tool_call tool_result approval artifact job metric usage error answer state"
    assert set(told.split()) == TYPES
    assert STREAMED <= TYPES and all("text" in FIELDS[t] or "text?" in FIELDS[t] for t in STREAMED)


@pytest.mark.parametrize("type", sorted(TYPES))
def test_data_is_checked_against_the_table(type):
    full = {name.rstrip("?"): sample(kinds) for name, kinds in FIELDS[type].items()}
    if type == "state":
        full["state"] = "running"
    assert problems(type, full) == []
    required = [name for name in FIELDS[type] if not name.endswith("?")]
    for name in required:
        assert problems(type, {k: v for k, v in full.items() if k != name})
    for name in full:
        assert problems(type, {**full, name: object()}), name
    assert problems(type, {**full, "surprise": 1}) == [f"{type}: surprise is not documented"]


def test_an_unknown_type_or_state_is_a_problem():
    assert problems("thoughts", {}) and problems("state", {"state": "fine"})
    assert problems("usage", {"input_tokens": True, "output_tokens": 1})


def test_many_deltas_become_about_ten_events_a_second():
    sink = Sink()
    stream = Coalescer(sink, Redactor())
    start = time.monotonic()
    count = 0
    while time.monotonic() - start < 1.0:
        stream.append("thought", {"text": f"word{count} ", "step": 1})
        count += 1
        time.sleep(0.0005)
    stream.flush()
    assert 8 <= len(sink.items) <= 14
    assert sink.text("thought") == "".join(f"word{n} " for n in range(count))


def test_eight_thousand_deltas_cost_little():
    sink = Sink()
    stream = Coalescer(sink, Redactor([TOKEN]))
    start = time.process_time()
    for n in range(8000):
        stream.append("thought", {"text": f"w{n} ", "step": 1})
    stream.flush()
    spent = time.process_time() - start
    assert sink.text("thought") == "".join(f"w{n} " for n in range(8000))
    assert spent < 0.3


def test_the_first_piece_goes_at_once_and_the_last_without_another_append():
    sink = Sink()
    stream = Coalescer(sink)
    stream.append("output", {"text": "first\n", "step": 1, "stream": "stdout"})
    assert sink.text("output") == "first\n"
    sink.arrived.clear()
    stream.append("output", {"text": "second\n", "step": 1, "stream": "stdout"})
    assert sink.text("output") == "first\n"
    assert sink.arrived.wait(1) and sink.text("output") == "first\nsecond\n"


def test_one_ticker_thread_serves_all_streams():
    sinks = [Sink() for _ in range(50)]
    streams = [Coalescer(sink) for sink in sinks]
    for stream in streams:
        stream.append("answer", {"text": "a "})
        stream.append("answer", {"text": "b"})
    deadline = time.monotonic() + 3
    while any(sink.text("answer") != "a b" for sink in sinks):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert sum(thread.name == "event-ticker" for thread in threading.enumerate()) == 1


def test_order_is_kept_between_text_and_everything_else():
    sink = Sink()
    stream = Coalescer(sink, Redactor())
    stream.append("thought", {"text": "I think", "step": 1})
    stream.append("code", {"text": "print(1)", "step": 1})
    stream.append("output", {"text": "1\n", "step": 1, "stream": "stdout"})
    stream.append("output", {"text": "warn\n", "step": 1, "stream": "stderr"})
    stream.append("tool_call", {"id": "t", "tool": "x", "arguments": {}})
    stream.append("output", {"text": "2\n", "step": 1, "stream": "stdout"})
    stream.append("state", {"state": "succeeded"})
    told = [(t, d.get("text", "")) for t, d in sink.items]
    assert "".join(text or f"<{t}>" for t, text in told) == "I thinkprint(1)1\nwarn\n<tool_call>2\n<state>"
    assert [t for t, _ in told if t not in STREAMED] == ["tool_call", "state"]


def test_a_secret_cut_by_streaming_by_stderr_and_by_a_tool_call_is_still_seen():
    sink = Sink()
    stream = Coalescer(sink, Redactor())
    parts = [f"token {TOKEN[:2]}", TOKEN[2:9], TOKEN[9:20], f"{TOKEN[20:]} end\n"]
    for part in parts:
        stream.append("output", {"text": part, "step": 1, "stream": "stdout"})
        stream.append("output", {"text": "noise\n", "step": 1, "stream": "stderr"})
        stream.append("tool_call", {"id": "t", "tool": "x", "arguments": {}})
        stream.tick()
    stream.flush()
    assert sink.text("output", stream="stdout") == "token [redacted hf token] end\n"
    assert sink.text("output", stream="stderr") == "noise\n" * 4


def test_what_the_store_refused_is_not_lost_and_not_doubled():
    sink = Sink()
    stream = Coalescer(sink)
    stream.append("output", {"text": "one "})
    sink.refuse = True
    stream.append("output", {"text": "two "})
    stream.tick()
    with pytest.raises(OSError):
        stream.append("job", {"id": "j", "state": "running"})
    sink.refuse = False
    stream.append("output", {"text": "three "})
    stream.flush()
    assert [(t, d.get("text")) for t, d in sink.items] == [
        ("output", "one "),
        ("output", "two "),
        ("job", None),
        ("output", "three "),
    ]


def test_a_huge_piece_is_cut_into_events_a_page_can_take():
    sink = Sink()
    stream = Coalescer(sink, Redactor())
    stream.append("output", {"text": "x" * 1_000_000, "stream": "stdout"})
    stream.flush()
    assert sink.text("output") == "x" * 1_000_000
    assert max(len(d["text"]) for _, d in sink.items) <= LARGEST_PIECE
    assert sink.batches <= 2


def test_an_event_reads_back_as_json():
    assert Event("s", 1, 2.5, "task", {"text": "ü"}).to_json() == (
        '{"session":"s","seq":1,"at":2.5,"type":"task","data":{"text":"ü"}}'
    )
