"""For programs: one JSON event a line, or the answer alone. Nothing else is ever written to their output."""

import json
import sys
from typing import Any, TextIO

from agent.cli.view.base import View
from agent.cli.view.clean import clean, one_line
from agent.events import Event
from tools.envelope import markdown_of

ALL_ROWS = 1_000_000


class JsonView(View):
    """Pure ASCII, so that it can be read everywhere and does nothing to a terminal."""

    def __init__(self, out: TextIO):
        self._out = out

    def show(self, event: Event) -> None:
        print(json.dumps(event.to_dict(), separators=(",", ":")), file=self._out, flush=True)


class QuietView(View):
    """The last answer, whole, at the end of the turn; what went wrong goes to stderr."""

    def __init__(self, out: TextIO):
        self._out = out
        self._answer = Answer()

    def show(self, event: Event) -> None:
        if event.type == "task":
            self._answer = Answer()
        elif event.type == "answer":
            self._answer.add(event.data)
        elif event.type == "state" and event.data.get("exit_code"):
            print(f"{event.data['state']}: {one_line(event.data.get('reason', ''))}", file=sys.stderr)

    def notice(self, line: str) -> None:
        pass

    def flush(self) -> None:
        text = self._answer.markdown()
        self._answer = Answer()
        if text:
            print(text, file=self._out, flush=True)


class Answer:
    """Puts an answer together from its pieces; one of a later step replaces that of an earlier one."""

    def __init__(self) -> None:
        self.envelope: dict[str, Any] | None = None
        self._pieces: list[str] = []
        self._step: Any = None

    def __bool__(self) -> bool:
        return bool(self._pieces) or self.envelope is not None

    def add(self, data: dict[str, Any]) -> None:
        if data.get("step") != self._step:
            self._pieces, self.envelope, self._step = [], None, data.get("step")
        if "envelope" in data:
            self.envelope = data["envelope"]
        else:
            self._pieces.append(data.get("text", ""))

    def text(self) -> str:
        return clean("".join(self._pieces)).strip()

    def markdown(self, most_rows: int = ALL_ROWS) -> str:
        if self.envelope is None:
            return self.text()
        shown = clean(markdown_of(self.envelope, most_rows)).strip()
        return f"{self.text()}\n\n{shown}".strip()
