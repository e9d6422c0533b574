"""The live view of a terminal: finished lines scroll up and stay, below them a few rows tell what happens just now.

Thoughts are dim, code is highlighted line by line as it comes, output has a bar at its left. Very long lines and very
long outputs are cut here and nowhere else; the session keeps all of it. The rows below are redrawn by a thread of Rich
from a snapshot, so that a clock goes on while nothing comes.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agent.cli.view import base, shapes
from agent.cli.view.clean import clean, one_line
from agent.cli.view.events import Answer
from agent.cli.view.lines import Lines
from agent.cli.view.tally import Tally
from agent.events import ENDS, STREAMED, Event

LONGEST = {"thought": 100_000, "code": 20_000, "output": 2_000}  # characters of a line
MOST_LINES = 2_000  # of one step's output
TAIL = 240  # characters of an unfinished line shown below
BUSY = {"thought": "thinking", "code": "writing code", "output": "running", "answer": "answering"}
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ENDED_JOBS = ("succeeded", "failed", "cancelled", "completed", "error", "lost", "limit", "timeout")
MARKUP = re.compile(r"[*_`#|\[<>]|^\s*(?:-|\d+\.)\s", re.M)
STYLES = {"thought": "dim italic", "stderr": "yellow"}


@dataclass(frozen=True)
class Snapshot:
    """What the rows below show; never changed, only replaced."""

    tail: str = ""
    tools: tuple[tuple[str, float], ...] = ()
    jobs: tuple[dict[str, Any], ...] = ()
    metric: str = ""
    busy: str = "starting"
    since: float = field(default_factory=time.time)
    facts: str = ""


class LiveView(base.View):
    def __init__(self, home: Path, console: Console | None = None):
        self.console = console or Console(highlight=False, markup=False, emoji=False)
        self._home = home
        self._live: Live | None = None
        self._written: dict[tuple, Lines] = {}
        self._code = shapes.Highlighted()
        self._lines = 0  # of output in this step
        self._answer = Answer()
        self._said = ""  # the last error
        self._prose: tuple[int | None, str] = None, ""  # of the last step, and its number
        self._calls: dict[str, tuple[str, float]] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._plan: dict[str, Any] = {}
        self._metric, self._busy, self._since = "", "starting", time.time()
        self.tally = Tally()
        self._snapshot = Snapshot()

    def begin(self) -> None:
        self._live = Live(
            get_renderable=self._below, console=self.console, refresh_per_second=8, transient=True, screen=False
        )
        self._live.start()

    def show(self, event: Event) -> None:
        self.tally.add(event)
        data = event.data
        if event.type == "answer":
            self._end_streams()
            self._answer.add(data)
        elif event.type in STREAMED:
            self._text(event)
        else:
            getattr(self, f"_show_{event.type}")(data, event.at)
        self._busy = BUSY.get(event.type, self._busy)
        self._snapshot = Snapshot(
            self._tail(), tuple(self._calls.values()), tuple(self._jobs.values()), self._metric, self._busy,
            self._since, self._facts(),
        )  # fmt: skip

    def notice(self, line: str) -> None:
        self._line(clean(line), "dim")

    def card(self, card: dict[str, Any], most: int = base.CARD_LINES) -> None:
        first, *rest = base.card_lines(card, most)
        text = Text("\n").join([Text(first, style="bold"), *map(Text, rest)])
        self.console.print(Panel(text, title="approval", title_align="left", border_style="yellow"))

    @contextmanager
    def aside(self) -> Iterator[None]:
        live, self._live = self._live, None
        if live:
            live.stop()
        try:
            yield
        finally:
            if live:
                self.begin()

    def flush(self) -> None:
        self._end_streams()
        if self._live:
            self._live.stop()
            self._live = None
        if self._answer:
            self.console.print()
            if self._answer.text() and not self._stands_above(self._answer.text()):
                self.console.print(shapes.markdown(self._answer.text()))
            if self._answer.envelope is not None:
                for shape in shapes.envelope(self._answer.envelope):
                    self.console.print(shape)
            self._answer = Answer()

    def leave(self) -> None:
        if self._live:
            os.write(self.console.file.fileno(), b"\x1b[?25h\n")  # the cursor that Rich has hidden

    def _stands_above(self, answer: str) -> bool:
        """An answer in plain words was read while it was written."""
        return clean(self._prose[1]).strip().endswith(answer) and not MARKUP.search(answer)

    # -- running text ------------------------------------------------------------------------------------------------

    def _text(self, event: Event) -> None:
        kind, step = event.type, event.data.get("step")
        if self._written and next(iter(self._written))[:2] != (kind, step):
            self._end_streams()
        if kind == "thought":
            before = self._prose[1] if self._prose[0] == step else ""
            self._prose = step, before + event.data["text"]
        key = (kind, step, event.data.get("stream"))
        written = self._written.setdefault(key, Lines(LONGEST[kind]))
        self._print_lines(key, written.feed(event.data["text"]))

    def _print_lines(self, key: tuple, lines: list[str]) -> None:
        kind = key[0]
        if not lines:
            return
        if kind == "code":
            self.console.print(shapes.Gutter(self._code.lines(lines), "┃ ", "cyan"))
            return
        if kind == "output":
            room = max(0, MOST_LINES - self._lines)
            self._lines += len(lines)
            lines = lines[:room]
        style = STYLES.get(key[2] or kind, "")
        if lines:
            self.console.print(shapes.Gutter(Text("\n".join(lines), style=style), "│ " if kind == "output" else "  "))

    def _end_streams(self) -> None:
        for key, written in self._written.items():
            self._print_lines(key, written.close())
        if self._lines > MOST_LINES:
            self._line(f"… {self._lines - MOST_LINES:,} more lines; `sessions export` has them all", "dim")
        if self._written:
            self._code, self._lines = shapes.Highlighted(), 0
        self._written.clear()

    def _tail(self) -> str:
        """The end of the unfinished lines: a progress bar, half a sentence."""
        rests = [(w.stream.over or w.rest)[-TAIL:] for w in self._written.values()]
        return "\n".join(rest for rest in rests if rest.strip())

    # -- the other events --------------------------------------------------------------------------------------------

    def _line(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style, overflow="fold"))

    def _show_task(self, data: dict[str, Any], at: float) -> None:
        self._end_streams()
        self._since, self._busy, self._plan = at, "starting", {}
        if not self.typed:
            self.console.print(shapes.Gutter(Text(clean(data["text"]).strip(), style="bold"), "› ", "bold green"))
        for file in data.get("files", ()):
            self._line(f"  file {one_line(file)}", "dim")

    def _show_tool_call(self, data: dict[str, Any], at: float) -> None:
        if any(kind != "output" for kind, *_ in self._written):
            self._end_streams()  # the code that calls is whole
        self._calls[data["id"]] = (base.call_line(data), at)

    def _show_tool_result(self, data: dict[str, Any], at: float) -> None:
        call, _ = self._calls.pop(data["id"], (one_line(data["tool"]), at))
        self._jobs.pop(data["id"], None)
        took = base.duration(data["seconds"])
        if data["ok"]:
            self._line(f"✓ {call} {took}{base.told(data.get('result'))}", "green")
        else:
            self._line(f"✗ {call} {took}: {one_line(data.get('error', ''), 500)}", "red")

    def _show_approval(self, data: dict[str, Any], at: float) -> None:
        line = base.approval_line(data)
        if line and data["decision"] != "ask":
            self._line(f"• {line}", "yellow")

    def _show_artifact(self, data: dict[str, Any], at: float) -> None:
        self._line(f"• kept {base.artifact_line(data, self._home)}", "blue")

    def _show_job(self, data: dict[str, Any], at: float) -> None:
        if data["id"] in self._calls:  # how far a tool is
            call, _ = self._calls[data["id"]]
            self._jobs[data["id"]] = {**data, "id": call.partition("(")[0], "state": ""}
            return
        before = self._jobs.pop(data["id"], None)
        if before is None or before["state"] != data["state"]:
            self._line(f"• job {base.job_line(data)}", "blue")
        if data["state"].lower() not in ENDED_JOBS:
            self._jobs[data["id"]] = data

    def _show_metric(self, data: dict[str, Any], at: float) -> None:
        self._metric = base.metric_line(data)

    def _show_usage(self, data: dict[str, Any], at: float) -> None:
        pass  # it stands in the last row

    def _show_error(self, data: dict[str, Any], at: float) -> None:
        self._end_streams()
        self._said = data["text"]
        for line in base.error_lines(data):
            self._line(f"✗ {line}", "red")

    def _show_state(self, data: dict[str, Any], at: float) -> None:
        line = base.state_line(data, self._said)
        if "step" in data.get("detail", {}):
            self._busy = "thinking"
        if plan := data.get("detail", {}).get("plan"):
            self._show_plan(plan)
            return
        if data["state"] in ENDS:
            self.flush()
            self._calls.clear()
        if line:
            self._line(f"• {line}", "green" if data["state"] == "succeeded" else "dim")

    def _show_plan(self, plan: dict[str, Any]) -> None:
        """All of it when it is new, then how far it is; below, what is done just now."""
        if plan["steps"] != self._plan.get("steps"):
            for number, step in enumerate(plan["steps"], 1):
                self._line(f"  {number}. {one_line(step)}", "cyan")
        self._plan = plan
        self._line(f"• {base.plan_line(plan)}", "cyan")

    # -- the rows below ----------------------------------------------------------------------------------------------

    def _facts(self) -> str:
        parts = [f"step {self.tally.step}"] if self.tally.step else []
        parts += [self.tally.tokens()] if self.tally.tokens_in else []
        if self._plan:
            parts.insert(0, f"plan {self._plan['done']}/{len(self._plan['steps'])}")
        return " · ".join([*parts, self.tally.money()] if self.tally.money() else parts)

    def _below(self) -> RenderableType:
        now, shown = time.time(), self._snapshot
        rows: list[RenderableType] = []
        if shown.tail:
            rows.append(shapes.Gutter(Text(shown.tail, style="dim"), "· "))
        for call, at in shown.tools[:6]:
            rows.append(Text(f"▸ {call} {base.duration(max(0.0, now - at))}", no_wrap=True, overflow="ellipsis"))
        rows += [_bar(job) for job in shown.jobs[:4]]
        if shown.metric:
            rows.append(Text(shown.metric, style="dim", no_wrap=True, overflow="ellipsis"))
        took = base.duration(max(0.0, now - shown.since))
        facts = " · ".join(part for part in (shown.busy, took, shown.facts, "Ctrl-C stops") if part)
        frame = FRAMES[int(now * 8) % len(FRAMES)]
        rows.append(Text(f"{frame} {facts}", style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*rows)


def _bar(job: dict[str, Any]) -> RenderableType:
    line = Text(base.job_line(job), no_wrap=True, overflow="ellipsis")
    if job.get("progress") is None:
        return line
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=1.0, completed=base.share(job["progress"]), width=24), line)
    return grid
