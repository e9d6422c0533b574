"""Plain text for pipes, files and simple terminals, written as it comes.

What the model and its code wrote is indented under a heading, so that no output can pass itself off as a heading; only
the answer stands at the margin. A progress bar appears once, as it looked when its line ended.
"""

from pathlib import Path
from typing import TextIO

from agent.cli.view import base
from agent.cli.view.clean import Stream, clean
from agent.cli.view.events import Answer
from agent.events import STREAMED, Event

INDENT = "  "


class PlainView(base.View):
    def __init__(self, out: TextIO, home: Path):
        self._out, self._home = out, home
        self._heading = ""  # the stream that is written just now
        self._streams: dict[tuple, Stream] = {}
        self._fresh = True  # at the start of a line
        self._answer = Answer()

    def show(self, event: Event) -> None:
        data = event.data
        if event.type == "answer":
            self._answer.add(data)
        elif event.type in STREAMED:
            self._text(event)
        else:
            lines = self._lines(event)
            if lines:
                self._break()
                self._write("".join(f"{line}\n" for line in lines))
            if event.type in ("task", "state", "error"):
                self._end_streams()
            if event.type == "state" and data["state"] in base.ENDS:
                self.flush()
        self._out.flush()

    def notice(self, line: str) -> None:
        self._break()
        self._write(f"{line}\n")
        self._out.flush()

    def flush(self) -> None:
        self._end_streams()
        if self._answer:
            self._break()
            self._write(f"\n{self._answer.markdown()}\n")
            self._answer = Answer()
        self._out.flush()

    def _text(self, event: Event) -> None:
        key = (event.type, event.data.get("step"), event.data.get("stream"))
        if self._streams and key[1] != next(iter(self._streams))[1]:
            self._end_streams()
        stream = self._streams.setdefault(key, Stream())
        self._indented(key, stream.feed(event.data["text"]))

    def _indented(self, key: tuple, text: str) -> None:
        if not text:
            return
        heading = " ".join(str(part) for part in (key[0], key[2] if key[2] == "stderr" else "") if part)
        if heading != self._heading:
            self._break()
            self._write(f"{heading}\n")
            self._heading = heading
        if self._fresh:
            self._write(INDENT)
        body = text.removesuffix("\n")
        self._write(body.replace("\n", f"\n{INDENT}"))
        self._fresh = False
        if text.endswith("\n"):
            self._write("\n")

    def _end_streams(self) -> None:
        for key, stream in self._streams.items():
            self._indented(key, stream.close())
        self._streams.clear()
        self._break()

    def _break(self) -> None:
        """To the start of a line, out of the running text."""
        if not self._fresh:
            self._write("\n")
        self._heading = ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._fresh = text.endswith("\n") if text else self._fresh

    def _lines(self, event: Event) -> list[str]:
        data = event.data
        if event.type == "task":
            files = "".join(f"\n{INDENT}file {base.one_line(file)}" for file in data.get("files", ()))
            return [f"task\n{INDENT}{clean(data['text']).strip().replace(chr(10), chr(10) + INDENT)}{files}"]
        if event.type == "tool_call":
            return [f"tool {base.call_line(data)}"]
        if event.type == "tool_result":
            return [f"tool {base.result_line(data)}"]
        if event.type == "approval":
            line = base.approval_line(data)
            return [f"approval {line}"] if line else []
        if event.type == "artifact":
            return [f"artifact {base.artifact_line(data, self._home)}"]
        if event.type == "job":
            return [f"job {base.job_line(data)}"]
        if event.type == "metric":
            return [f"metric {base.metric_line(data)}"]
        if event.type == "error":
            first, *rest = base.error_lines(data)
            return [f"error {first}", *(f"{INDENT}{line}" for line in rest)]
        line = base.state_line(data) if event.type == "state" else None
        return [f"state {line}"] if line else []
