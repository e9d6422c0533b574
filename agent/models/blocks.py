"""Where the first code block of a model's answer begins and ends.

Promise: `<code>` tags and fences in any usual spelling are found, and an end is believed only when the code before it
is not in the middle of a string, so fences, tags and headings inside string literals stay code. Python's own compiler
is the judge. Used on whole answers and, through `Watch`, on growing ones. Whether the code is any good is not decided
here.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

PYTHON = {
    "",
    "py",
    "py3",
    "python",
    "python2",
    "python3",
    "ipython",
    "ipython3",
    "pycon",
    "jupyter",
    "tool_code",
    "code",
}
SHELL = {"bash", "sh", "shell", "zsh", "console", "terminal", "shell-session", "powershell", "cmd", "bat"}
FILENAME = "<model answer>"
MOST_CHECKS = 64  # compiler runs for one block: past it the last possible end counts

warnings.filterwarnings("ignore", category=SyntaxWarning, module=re.escape(FILENAME))

_OPENER = re.compile(
    r"""(?P<tag>(?!(?<=`)<code>`)<code(?:[ \t][^<>\n]*)?>)
      | ^[ \t]*(?:>[ \t]?|[-*+][ \t]+|\d+[.)][ \t]+)?
          (?P<fence>`{3,}|~{3,})[ \t]*(?P<lang>[^\s`]*)(?P<info>[^\n`]*)$
      | (?P<mid>`{3,})(?P<midlang>python3?|py)[ \t]*$
      | ^[ \t]*(?P<one>```)(?:python3?[ \t]|py[ \t])?(?P<line>[^`\n]+)```[ \t]*$
    """,
    re.M | re.I | re.X,
)
_CLOSER = re.compile(
    r"""(?P<tag></[ \t]*code[ \t]*>|</?end_code>|<code>)
      | (?P<token><\|(?:im_end|endoftext|end|eot_id|end_of_text|return|call)\|>|</s>[ \t]*\Z)
      | ^[ \t>]*(?P<fence>`{3,}|~{3,})[^\n]*$
      | (?<=[^\s`])(?P<tail>```)[ \t]*$
      | ^[ \t]*(?P<heading>(?:\*\*|\#+[ ]|<)?(?:Observations?|Execution[ ](?:logs?|result|output)|Output|Result|Thought)
          (?:\*\*)?[:>](?![ \t]*[\w.|,\[\] ]+=)|Out\[\d+\]:|Last[ ]output[ ]from[ ]code[ ]snippet)
    """,
    re.M | re.I | re.X,
)
_CUT_CLOSER = re.compile(r"<(?:/(?:c(?:o(?:de?)?)?)?)?[ \t]*\Z|^[ \t]*`{1,2}[ \t]*\Z", re.M | re.I)
_MAGIC = re.compile(r"^([ \t]*)(?:[!%?]|\w[\w, ]*=[ \t]*[!%](?!=)).*$", re.M)
_INFO_IS_CODE = re.compile(r"[ \t]+(?:import|from|print|def|class|final_answer)\b")


@dataclass(frozen=True)
class Block:
    """One block: `text[start:end]` is all of it with its marks; `closed` says that an end was written."""

    start: int
    end: int
    code: str
    lang: str
    closed: bool
    whole: bool


def state(code: str) -> str:
    """'whole' when it compiles, 'open' when it ends inside a string literal, else 'broken'."""
    if re.match(r"\s*%%", code):
        return "whole"  # a cell magic: the rest is not Python
    found = _try(code)
    return _try(_MAGIC.sub(r"\1pass", code)) if found != "whole" and _MAGIC.search(code) else found


def _try(code: str) -> str:
    try:
        compile(code, FILENAME, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        unterminated = "unterminated" in (error.msg or "")
        at_the_end = "triple-quoted" in (error.msg or "") or (error.lineno or 0) > code.count("\n")
        return "open" if unterminated and at_the_end else "broken"
    except (ValueError, RecursionError, MemoryError):
        return "broken"
    return "whole"


def does_something(code: str) -> bool:
    """Whether code is more than a name or a number standing there: what quoted output in a bare fence looks like."""
    if state(code) != "whole":
        return bool(re.search(r"^\s*(import |from \w+ import|def |class |print\(|final_answer\(|[!%]\w)", code, re.M))
    if _MAGIC.search(code):
        return True
    acts = (ast.Call, ast.Assign, ast.AugAssign, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Delete)
    tree = compile(code, FILENAME, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return any(isinstance(node, acts) for node in ast.walk(tree))


def tidy(code: str) -> str:
    """Blank edges, common indent, quote marks and interpreter prompts gone."""
    code = re.sub(r"\A(?:[ \t]*\n)+", "", code).rstrip()
    lines = code.split("\n")
    if all(line.startswith(">") and not line.startswith(">>>") for line in lines):
        lines = [line[1:].removeprefix(" ") for line in lines]
    if lines[0].lstrip().startswith(">>> "):
        prompts = (">>> ", "... ")
        lines = [line.lstrip()[4:] for line in lines if (line.lstrip() + " ").startswith(prompts)]
    indent = len(lines[0]) - len(lines[0].lstrip(" \t"))
    code = "\n".join(lines)
    if not indent:
        return code
    return textwrap.dedent(code) if _try(textwrap.dedent(code)) == "whole" else _outdent(lines)


def _outdent(lines: list[str]) -> str:
    lead = lines[0][: len(lines[0]) - len(lines[0].lstrip(" \t"))]
    return "\n".join(line.removeprefix(lead) for line in lines)


def blocks(text: str, final: bool = True) -> Iterator[Block]:
    """All blocks in order, of any language. With final=False the text may still grow, so a cut mark is not an end."""
    at = 0
    while opener := _OPENER.search(text, at):
        block = _block(text, opener, final)
        if block is None:
            at = opener.end()
            continue
        yield block
        at = max(block.end, opener.end())


def first_code(text: str, final: bool = True) -> Block | None:
    """The first block that is Python to be run; quoted output, data and shell blocks are passed over."""
    return next((block for block in blocks(text, final) if is_code(block)), None)


def is_code(block: Block) -> bool:
    return block.lang in PYTHON and bool(block.code.strip()) and (block.lang != "" or does_something(block.code))


def _block(text: str, opener: re.Match, final: bool) -> Block | None:
    if opener["one"]:
        code = opener["line"].strip()
        return Block(opener.start("one"), opener.end(), code, "", True, state(code) == "whole")
    tagged, fence = bool(opener["tag"]), opener["fence"] or opener["mid"] or ""
    lang = "code" if tagged else _language(opener["lang"] or opener["midlang"] or "")
    begin = opener.end()
    if opener["info"] and lang in PYTHON and _INFO_IS_CODE.match(opener["info"]):
        begin = opener.start("info")
    inner = re.compile(r"\s*(?:<code>|(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n`]*$)", re.M | re.I).match(text, begin)
    if inner and (tagged or inner[1] is None) and lang in PYTHON:
        begin, fence = inner.end(), inner[1] or fence
        if inner[1]:
            lang = _language(inner[2]) or "code"
    elif tagged and (word := re.compile(r"\s*(?:python3?|py)[ \t]*\n", re.I).match(text, begin)):
        begin = word.end()
    start = opener.start("tag") if tagged else opener.start()
    if lang not in PYTHON:
        return _foreign(text, start, begin, lang, fence)
    end = _end(text, begin, fence, tagged, final)
    if end is None:
        return Block(start, len(text), tidy(text[begin:]), lang, False, state(tidy(text[begin:])) == "whole")
    if tagged and _mentioned(text, start, begin, end):
        return None
    code = tidy(text[begin : end[0]])
    return Block(start, end[1], code, lang, True, state(code) == "whole")


def _language(word: str) -> str:
    return re.split(r"[^a-z0-9_+-]", word.strip("{}.").lower(), maxsplit=1)[0]


def _mentioned(text: str, start: int, begin: int, end: tuple[int, int]) -> bool:
    """Prose that names something in <code>tags</code>: one line, in the middle of a sentence."""
    before = text[text.rfind("\n", 0, start) + 1 : start].rstrip()
    after = text[end[1] :].split("\n", 1)[0].strip()
    if "\n" in text[begin : end[0]] or not before:
        return False
    return not does_something(text[begin : end[0]].strip()) or (before[-1] not in ".:!?>" and bool(after))


def _foreign(text: str, start: int, begin: int, lang: str, fence: str) -> Block:
    """A block in another language: the compiler has no say, the next closing mark ends it."""
    close = re.compile(rf"^[ \t>]*{re.escape(fence[:3])}+[ \t]*$|</code>", re.M).search(text, begin)
    stop, end = (close.start(), close.end()) if close else (len(text), len(text))
    if outer := re.compile(r"\s*</code>").match(text, end):
        end = outer.end()
    return Block(start, end, text[begin:stop].strip("\n"), lang, bool(close), False)


def _end(text: str, begin: int, fence: str, tagged: bool, final: bool) -> tuple[int, int] | None:
    """(end of the code, end of the marks), or None while no end was written."""
    furthest, checks = None, 0
    for closer in _CLOSER.finditer(text, begin):
        mark = str(closer.lastgroup)
        if mark == "fence" and closer["fence"][0] != (fence or "`")[0]:
            continue
        if mark == "tag" and closer["tag"].lower() == "<code>" and not text[begin : closer.start()].strip():
            continue
        stop = closer.start(mark)
        found = _found(text, begin, stop)
        if mark == "heading":
            if found == "whole" and text[begin:stop].strip():
                return closer.start(), closer.start()
            continue
        if mark == "fence" and tagged and not fence and re.match(r"\s*%%", text[begin:]):
            continue  # a cell magic may write a text with fences: only the tag ends it
        furthest, checks = (closer.start(), _after(text, closer.end(mark))), checks + 1
        if found == "open" and checks < MOST_CHECKS:
            continue
        if mark == "tag" and found == "whole" and _in_comment(text, begin, stop):
            line = text[closer.end() :].split("\n", 1)
            if line[0].strip() or (not final and len(line) == 1):
                continue
        return furthest
    if final and (cut := _CUT_CLOSER.search(text, begin)) and _found(text, begin, cut.start()) == "whole":
        return cut.start(), len(text)
    return furthest if final else None


def _found(text: str, begin: int, stop: int) -> str:
    """The state of the code before a mark. One on its own line has ended the line before it, one in a line has not."""
    own_line = not text[max(begin, text.rfind("\n", 0, stop) + 1) : stop].strip(" \t>")
    return state(tidy(text[begin:stop]) + ("\n" if own_line else ""))


def _in_comment(text: str, begin: int, stop: int) -> bool:
    last = text[text.rfind("\n", begin, stop) + 1 : stop]
    return bool(re.search(r"[#!%]", last)) and state(f"{tidy(text[begin:stop])} )(") == "whole"


def _after(text: str, end: int) -> int:
    """Past a second closing mark (a fence and a tag were both opened)."""
    second = re.compile(r"[ \t]*\n?[ \t]*(?:</code>|`{3,}[ \t]*$)", re.M | re.I).match(text, end)
    return second.end() if second else end


@dataclass
class Watch:
    """Follows a growing text and says when its first code block is closed.

    The text is looked at only when a line that can end a block has come, and less and less often when many such lines
    come, so the cost grows with the length of the text and not with its square.
    """

    text: list[str] = field(default_factory=list)
    _line: str = ""
    _looks: int = 0
    _size: int = 0
    _next: int = 0

    def feed(self, piece: str) -> int | None:
        """How much of this piece belongs to the answer when the block closes in it, else None."""
        self.text.append(piece)
        self._size += len(piece)
        lines = (self._line + piece).split("\n")
        due = any(_may_close(line) for line in lines[:-1]) or (">" in piece and "</code" in lines[-1].lower())
        self._line = lines[-1]
        if not due or self._size < self._next:
            return None
        whole = "".join(self.text)
        self.text, self._looks = [whole], self._looks + 1
        if self._looks > MOST_CHECKS:
            self._next = self._size + self._size // 8
        block = first_code(whole, final=False)
        if block is None or not block.closed:
            return None
        return max(0, len(piece) - (len(whole) - block.end))


def _may_close(line: str) -> bool:
    if "```" in line or "~~~" in line:
        return True
    low = line.lower()
    return "code>" in low or low.lstrip(" *#<").startswith("observation")
