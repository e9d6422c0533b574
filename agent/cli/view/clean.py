"""Text of models, programs and strangers made safe for a terminal.

Escape sequences go, also those cut in two by streaming; control characters go; what reorders or hides text
(bidirectional overrides, line separators) is shown as its code point. Letters of every script stay. Nothing here knows
colours: what a person sees in colour comes from the view, never from the text.
"""

import re
import shutil
from dataclasses import dataclass, field

LONGEST_ESCAPE = 4096  # a sequence that has not ended by then is no sequence: only its first character goes

_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
_BEGUN = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90-\x9f]*\x1b?|\x1b[ -/]*)\Z"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MISLEADING = re.compile(r"[\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """A whole text. A line that overwrote itself with carriage returns is left as it looked at its end."""
    stream = Stream()
    return stream.feed(text) + stream.close()


def one_line(text: object, most: int = 0) -> str:
    """For titles, names and reasons: one line, every invisible character visible; with `most`, cut to that length."""
    line = visible(" ".join(_safe(str(text)).split()))
    return line if not most or len(line) <= most else f"{line[: max(1, most) - 1]}…"


def visible(text: str) -> str:
    """For what a person decides on: whatever does not show is written as its code point."""
    return "".join(c if c.isprintable() or c == "\n" else _code_point(c) for c in text)


def columns() -> int:
    """How wide the terminal is; it may say 0."""
    return shutil.get_terminal_size().columns or 80


def _safe(text: str) -> str:
    return _MISLEADING.sub(lambda found: _code_point(found[0]), _CONTROL.sub("", _ESCAPE.sub("", text)))


def _code_point(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


@dataclass
class Stream:
    """One stream of text in pieces. `feed` gives what may be shown now; `over` is the line that is being overwritten
    (a progress bar), which comes out with the line's end."""

    over: str = field(default="", init=False)
    _begun: str = field(default="", init=False)
    _overwriting: bool = field(default=False, init=False)
    _column: int = field(default=0, init=False)  # characters of the current line that are out already

    def feed(self, piece: str) -> str:
        text = self._begun + piece
        self._begun = ""
        if "\x1b" in text or _CONTROL.search(text):
            text = _ESCAPE.sub("", text)
            begun = _BEGUN.search(text)
            if begun and len(text) - begun.start() <= LONGEST_ESCAPE:
                text, self._begun = text[: begun.start()], text[begun.start() :]
        if text.endswith("\r"):  # the next piece tells whether it is the end of a line
            text, self._begun = text[:-1], "\r" + self._begun
        return self._put(_safe(text).replace("\r\n", "\n"))

    def close(self) -> str:
        """The rest, as text; the stream starts afresh."""
        rest, self._begun = self._begun, ""
        shown = self._put(_safe(rest.rstrip("\r")))
        if self._overwriting:
            shown += self._settled()
        self._column = 0
        return shown

    def _put(self, text: str) -> str:
        if "\r" not in text and not self._overwriting:
            self._column = len(text) - text.rfind("\n") - 1 + (self._column if "\n" not in text else 0)
            return text
        shown: list[str] = []
        *lines, last = text.split("\n")
        for line in lines:
            self._write(line, shown)
            if self._overwriting:
                shown.append(self._settled())
            shown.append("\n")
            self._column = 0
        self._write(last, shown)
        return "".join(shown)

    def _write(self, line: str, shown: list[str]) -> None:
        first, *rest = line.split("\r")
        if self._overwriting:
            self.over += first
        else:
            shown.append(first)
            self._column += len(first)
        for version in rest:
            self._overwriting = True
            self.over = version or self.over

    def _settled(self) -> str:
        """The last version of an overwritten line; on a line of its own where its first version is out already."""
        before = "\n" if self._column and self.over else ""
        last, self.over, self._overwriting = self.over, "", False
        return before + last
