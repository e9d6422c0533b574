"""The forms a terminal gives to text, code, tables and Markdown. All text that comes in is foreign: markup in it is
never interpreted, links are shown as what they lead to, and nothing it holds reaches the terminal as a control.
"""

import re
from typing import Any

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import Markdown
from rich.segment import Segment
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from agent.cli.view.clean import clean, one_line
from tools.envelope import cell, markdown_of

MOST_ROWS = 50
MOST_COLUMNS = 12
LARGEST_MARKDOWN = 200_000
LARGEST_CODE = 20_000
_UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Gutter:
    """Text with a mark before each row, so that no output can look like a line of ours."""

    def __init__(self, text: Text, mark: str, style: str = "dim"):
        self.text, self.mark, self.style = text, mark, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(1, options.max_width - len(self.mark))
        for line in self.text.wrap(console, width, overflow="fold"):
            line.rstrip()
            yield Text.assemble((self.mark, self.style), line, end="\n")


class Safe:
    """The last net: what a renderer made of text (a character written as &#27; in Markdown) is looked at once more."""

    def __init__(self, inner: RenderableType):
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(_UNSAFE.sub("�", segment.text), segment.style)


class Highlighted:
    """Code that grows, highlighted a whole line at a time: each line comes out once."""

    def __init__(self, language: str = "python"):
        self._lexer: Any = Syntax("", language).lexer
        self._theme = Syntax.get_theme("ansi_dark")
        self._open: list[str] = []  # the lines since a string began that has not ended: they are read again

    def lines(self, new: list[str]) -> Text:
        source = "\n".join([*self._open, *new, ""])
        if len(source) > LARGEST_CODE:
            self._open = []
            return Text("\n".join(new))
        text, settled = Text(), 0
        for at, kind, value in self._lexer.get_tokens_unprocessed(source):
            text.append(value, self._theme.get_style_for_token(kind))
            if value.endswith("\n") and "String" not in str(kind):
                settled = at + len(value)
        lines = text.split("\n", allow_blank=True)[len(self._open) :][: len(new)]
        self._open = source[settled:].split("\n")[:-1]
        return Text("\n").join(lines)


def markdown(text: str) -> RenderableType:
    """Rendered, unless it is too large to be worth it. Tags in it are text."""
    if len(text) > LARGEST_MARKDOWN:
        return Safe(Text(text))
    shown = Markdown("", hyperlinks=False, code_theme="ansi_dark")
    shown.parsed = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).parse(text)
    return Safe(shown)


def envelope(data: dict[str, Any]) -> list[RenderableType]:
    if data.get("type") != "table":
        return [markdown(clean(markdown_of(data)))]
    columns, rows = data.get("columns", []), data.get("rows", [])
    table = Table(title=one_line(data.get("title") or "", 200) or None, title_justify="left", header_style="bold")
    for number, name in enumerate(columns[:MOST_COLUMNS]):
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows if number < len(row))
        table.add_column(Text(one_line(name, 80)), justify="right" if numeric else "left", overflow="fold")
    for row in rows[:MOST_ROWS]:
        table.add_row(*(Text(one_line(cell(value).replace("\\|", "|"), 300)) for value in row[:MOST_COLUMNS]))
    notes = [f"… {len(rows) - MOST_ROWS:,} more rows"] if len(rows) > MOST_ROWS else []
    notes += [f"… {len(columns) - MOST_COLUMNS:,} more columns"] if len(columns) > MOST_COLUMNS else []
    notes += [clean(str(data["note"]))] if data.get("note") else []
    shown = [table] if rows or not notes else []  # where nothing is, the note says so
    return [*shown, *(Text(note, style="dim") for note in notes)]
