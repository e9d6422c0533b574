"""Plain text for pipes, files and simple terminals, written line by line as it comes.

What the model and its code wrote is indented under a heading, so that no output can pass itself off as a heading; only
the answer stands at the margin. A progress bar appears once, as it looked when its line ended.
"""

from pathlib import Path
from typing import TextIO

from agent.cli.view import base
from agent.cli.view.clean import clean, one_line
from agent.cli.view.events import Answer
from agent.cli.view.lines import Lines
from agent.events import ENDS, STREAMED, Event

INDENT = "  "
LONGEST = 1 << 40  # a file takes lines of any length


class PlainView(base.View):
    def __init__(self, out: TextIO, home: Path):
        self._out, self._home = out, home
        self._heading = ""  # the stream that is written just now
        self._streams: dict[tuple, Lines] = {}
        self._answer = Answer()
        self._said = ""  # the last error
        self._calls: dict[str, str] = {}  # tools at work

    def show(self, event: Event) -> None:
        data = event.data
        if event.type == "answer":
            self._answer.add(data)
        elif event.type in STREAMED:
            self._text(event)
        else:
            if event.type in ("task", "state", "error"):
                self._end_streams()
            if event.type == "state" and data["state"] in ENDS:
                self.flush()
            if lines := self._lines(event):
                self._heading = ""
                self._write(lines)
        self._out.flush()

    def notice(self, line: str) -> None:
        self._heading = ""
        self._write([clean(line)])
        self._out.flush()

    def flush(self) -> None:
        self._end_streams()
        if self._answer:
            self._write(["", self._answer.markdown(), ""])
            self._answer, self._heading = Answer(), ""
        self._out.flush()

    def _text(self, event: Event) -> None:
        key = (event.type, event.data.get("step"), event.data.get("stream"))
        if self._streams and next(iter(self._streams))[:2] != key[:2]:
            self._end_streams()
        self._indented(key, self._streams.setdefault(key, Lines(LONGEST)).feed(event.data["text"]))

    def _indented(self, key: tuple, lines: list[str]) -> None:
        heading = f"{key[0]} stderr" if key[2] == "stderr" else key[0]
        if lines and heading != self._heading:
            self._write([heading])
            self._heading = heading
        self._write([f"{INDENT}{line}" for line in lines])

    def _end_streams(self) -> None:
        for key, stream in self._streams.items():
            self._indented(key, stream.close())
        self._streams.clear()

    def _write(self, lines: list[str]) -> None:
        self._out.write("".join(f"{line}\n" for line in lines))

    def _lines(self, event: Event) -> list[str]:
        data = event.data
        if event.type == "task":
            files = "".join(f"\n{INDENT}file {one_line(file)}" for file in data.get("files", ()))
            return [f"task\n{INDENT}{clean(data['text']).strip().replace(chr(10), chr(10) + INDENT)}{files}"]
        if event.type == "tool_call":
            self._calls[data["id"]] = one_line(data["tool"])
            return [f"tool {base.call_line(data)}"]
        if event.type == "tool_result":
            self._calls.pop(data["id"], None)
            return [f"tool {base.result_line(data)}"]
        if event.type == "approval":
            line = base.approval_line(data)
            return [f"approval {line}"] if line else []
        if event.type == "artifact":
            return [f"artifact {base.artifact_line(data, self._home)}"]
        if event.type == "job" and data["id"] in self._calls:
            return [f"tool {base.job_line({**data, 'id': self._calls[data['id']]})}"]
        if event.type == "job":
            return [f"job {base.job_line(data)}"]
        if event.type == "metric":
            return [f"metric {base.metric_line(data)}"]
        if event.type == "error":
            self._said = data["text"]
            first, *rest = base.error_lines(data)
            return [f"error {first}", *(f"{INDENT}{line}" for line in rest)]
        line = base.state_line(data, self._said) if event.type == "state" else None
        return [f"state {line}"] if line else []
