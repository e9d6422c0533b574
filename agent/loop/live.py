"""Shows a model's answer while it is written: prose as `thought` events, the first code block as `code` events.

For the eye only: what is run is what `parse` finds in the whole answer.
"""

import re
from collections.abc import Callable

OPEN = re.compile(r"<code>\n?|^[ \t]*(?:```|~~~)[ \t]*(?:python|py|python3|ipython)?[ \t]*\n", re.M | re.I)
CLOSE = re.compile(r"</code>?|^[ \t]*(?:```|~~~)[ \t]*$", re.M)
MAYBE_OPEN = re.compile(r"(?:<c?o?d?e?|^[ \t]*(?:`{1,3}|~{1,3})[ \t]*[A-Za-z0-9]*[ \t]*)\Z", re.M | re.I)
MAYBE_CLOSE = re.compile(r"(?:</?c?o?d?e?|^[ \t]*(?:`{1,3}|~{1,3})?[ \t]*|\n)\Z", re.M)


class Live:
    """`emit(type, text)` gets the pieces. What might be the start of a mark waits until it is known not to be one."""

    def __init__(self, emit: Callable[[str, str], None]):
        self.emit, self.mode, self.waiting = emit, "thought", ""

    def feed(self, piece: str) -> None:
        if self.mode == "over":
            return
        self.waiting += piece
        while found := (OPEN if self.mode == "thought" else CLOSE).search(self.waiting):
            if self.mode == "code" and found.end() == len(self.waiting) and not found[0].startswith("</code>"):
                break  # a fence may still grow: only its line's end says that it closes
            before, self.waiting = self.waiting[: found.start()], self.waiting[found.end() :]
            if self.mode == "thought":
                self.say(before)
                self.mode = "code"
            else:
                self.say(before.rstrip("\n"))
                self.mode, self.waiting = "over", ""
                return
        held = (MAYBE_OPEN if self.mode == "thought" else MAYBE_CLOSE).search(self.waiting)
        cut = held.start() if held else len(self.waiting)
        self.say(self.waiting[:cut])
        self.waiting = self.waiting[cut:]

    def end(self) -> None:
        if self.mode == "code":
            self.waiting = CLOSE.sub("", self.waiting).rstrip("\n")
        if self.mode != "over":
            self.say(self.waiting)
        self.waiting = ""

    def say(self, text: str) -> None:
        if text:
            self.emit(self.mode, text)
