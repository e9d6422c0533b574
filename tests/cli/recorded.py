"""Event streams written into a real store, as a session writes them, and the store read back by a view."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.cli.view import View
from agent.events import Event, problems
from agent.store import Store

CARD = {
    "id": "c2",
    "tool": "train",
    "risk": "paid",
    "what": "train Qwen3-0.6B on 1,000 rows",
    "where": "hf.co/jobs",
    "price": "about $2.00, at most $4.00",
    "usd": 2.0,
    "usd_max": 4.0,
    "minutes": 30.0,
    "left_usd": 10.0,
    "arguments": {"model": "Qwen3-0.6B", "script": "import trl\nprint('hi')"},
    "origin": "model",
}
ASKED = {
    "id": "c2",
    "decision": "ask",
    "tool": "train",
    "risk": "paid",
    "what": CARD["what"],
    "where": CARD["where"],
    "reason": "a person decides",
    "by": "policy",
    "usd": 2.0,
    "usd_max": 4.0,
    "minutes": 30.0,
    "priced": True,
    "card": CARD,
}
TURN: list[tuple[str, dict[str, Any]]] = [
    ("state", {"state": "running"}),
    ("task", {"text": "How long are the rows of data.csv?", "files": ["/home/user/data.csv"]}),
    ("thought", {"text": "I look at ", "step": 1}),
    ("thought", {"text": "the file.\n", "step": 1}),
    ("code", {"text": "import csv\nrows = list(csv", "step": 1}),
    ("code", {"text": '.reader(open("data.csv")))\nprint(len(rows))', "step": 1}),
    ("usage", {"input_tokens": 1500, "output_tokens": 40, "usd": None, "model": "Qwen3.8-27B", "step": 1}),
    ("output", {"text": "12", "step": 1, "stream": "stdout"}),
    ("tool_call", {"id": "c1", "tool": "inspect_dataset", "arguments": {"path": "data.csv"}, "step": 1}),
    ("tool_result", {"id": "c1", "tool": "inspect_dataset", "ok": True, "seconds": 0.31, "step": 1}
     | {"result": {"type": "table", "title": "Columns", "columns": ["name"], "rows": [["text"], ["label"]]}}),
    ("output", {"text": "34\n", "step": 1, "stream": "stdout"}),
    ("output", {"text": "careful\n", "step": 1, "stream": "stderr"}),
    ("artifact", {"path": "artifacts/lengths.png", "kind": "plot", "title": "Lengths", "step": 1}),
    ("answer", {"text": "There are **1,234** "}),
    ("answer", {"text": "rows."}),
    ("state", {"state": "succeeded", "reason": "", "exit_code": 0}),
]  # fmt: skip


@contextmanager
def recorded(home: Path, events: list[tuple[str, dict[str, Any]]]) -> Iterator[tuple[Store, str]]:
    for type, data in events:
        assert not problems(type, data)
    with Store.open(home) as store:
        session = store.create_session(title="recorded").id
        store.append_many(session, events)
        yield store, session


def shown(view: View, store: Store, session: str) -> list[Event]:
    events = list(store.all(session))
    for event in events:
        view.show(event)
    view.flush()
    return events
