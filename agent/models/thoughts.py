"""Thoughts apart from the answer, when a server leaves them in the content.

`strip` works on a whole answer: tags of the usual families, closed or not, a closing tag alone (the opening one was in
the prompt), channel marks. `Splitter` does the same for a stream, across chunk borders, as far as a stream allows: a
closing tag alone is only recognised when it was told to start inside a thought. Tags inside code stay code.
"""

import re

from agent.models.blocks import first_code

_NAMES = r"think|thinking|thought|thoughts|reasoning|reflection"
_OPEN = re.compile(rf"^[ \t]*(?:<({_NAMES})>|\[(THINK)\]|◁(think)▷)", re.M | re.I)
_END = rf"(?:</(?:{_NAMES})>|\[/THINK\]|◁/think▷)"
_CLOSE = re.compile(rf"(?<!`){_END}|{_END}(?!`)", re.I)  # `in backticks` it is only spoken of
_CHANNEL = re.compile(
    r"(?:<\|start\|>\s*assistant)?\s*<\|channel\|>\s*(analysis|commentary)[^<]*<\|message\|>(.*?)"
    r"(?:<\|end\|>|(?=<\|start\|>|<\|channel\|>)|\Z)",
    re.S,
)
_FINAL = re.compile(r"\s*(?:<\|start\|>\s*assistant)?\s*<\|channel\|>\s*final[^<]*<\|message\|>")
_TAGS = [f"<{slash}{name}>" for name in _NAMES.split("|") for slash in ("", "/")]
_TAGS += ["[think]", "[/think]", "◁think▷", "◁/think▷"]


def strip(text: str) -> tuple[str, str]:
    """(answer, thoughts)."""
    thoughts: list[str] = []
    while text.lstrip().startswith("<|") and (channel := _CHANNEL.match(text.lstrip())):
        thoughts.append(channel[2])
        text = text.lstrip()[channel.end() :]
    if final := _FINAL.match(text):
        text = text[final.end() :]
    while opened := _OPEN.search(text):
        block = first_code(text)
        if block and block.start < opened.start():
            break
        closed = _CLOSE.search(text, opened.end())
        thoughts.append(text[opened.end() : closed.start() if closed else len(text)])
        text = text[: opened.start()] + (text[closed.end() :] if closed else "")
    at = 0
    while closed := _CLOSE.search(text, at):
        if _belongs_to_code(text, closed):
            at = closed.end()
            continue
        thoughts.append(text[: closed.start()])
        text, at = text[closed.end() :], 0
    return text, "\n".join(thought.strip() for thought in thoughts if thought.strip())


def _belongs_to_code(text: str, closed: re.Match) -> bool:
    block = first_code(text)
    if block is None or not block.start < closed.start() < block.end:
        return False
    line = text[text.rfind("\n", 0, closed.start()) + 1 : closed.end()].strip()
    return block.whole or line != closed[0]


class Splitter:
    """Cuts a stream of content into ("think" | "text", piece) pairs, holding back what may be half a tag."""

    def __init__(self, inside: bool = False) -> None:
        self.kind = "think" if inside else "text"
        self._held = ""
        self._fresh = True  # only blanks so far on this line of text: a tag may open here
        self._code = False  # a block has begun: tags are code from here on
        self._swallow = False  # blanks right after a closing tag belong to neither

    def feed(self, piece: str) -> list[tuple[str, str]]:
        plain = self.kind == "text" and not self._held and not self._swallow
        if plain and not any(mark in piece for mark in "<[◁"):
            self._note(piece)
            return [(self.kind, piece)]
        self._held += piece
        return self._drain(False)

    def end(self) -> list[tuple[str, str]]:
        return self._drain(True)

    def _drain(self, final: bool) -> list[tuple[str, str]]:
        out: list[tuple[str, str]] = []
        while self._held:
            if self._swallow:
                self._held = self._held.lstrip()
                self._swallow = not self._held
                continue
            found = (_CLOSE if self.kind == "think" else _OPEN).search(self._held) if not self._code else None
            if found and (self.kind == "think" or self._opens(found)):
                self._put(out, self._held[: found.start()])
                self._held = self._held[found.end() :]
                self.kind = "text" if self.kind == "think" else "think"
                self._swallow, self._fresh = True, True
                continue
            keep = 0 if final or self._code else self._half_tag()
            self._put(out, self._held[: len(self._held) - keep])
            self._held = self._held[len(self._held) - keep :]
            break
        return out

    def _opens(self, found: re.Match) -> bool:
        before = self._held[: found.start()]
        return not _starts_code(before) and ("\n" in before or self._fresh)

    def _half_tag(self) -> int:
        at = max(self._held.rfind("<"), self._held.rfind("["), self._held.rfind("◁"))
        rest = self._held[at:].lower()
        return len(rest) if at >= 0 and any(tag.startswith(rest) for tag in _TAGS) else 0

    def _put(self, out: list[tuple[str, str]], piece: str) -> None:
        if piece:
            self._note(piece)
            out.append((self.kind, piece))

    def _note(self, piece: str) -> None:
        if self.kind == "think":
            return
        self._code = self._code or _starts_code(piece)
        last = piece.rpartition("\n")
        self._fresh = not last[2].strip() and (bool(last[1]) or self._fresh)


def _starts_code(piece: str) -> bool:
    return "```" in piece or "~~~" in piece or "<code" in piece
