"""Command lines in Markdown: found, and held against what the tools of today say of themselves with --help.

Known are subcommands, option names and the values of options that list theirs; positional arguments are not judged.
Nothing is executed but --help, by whoever is handed in.
"""

import re
import shlex
from collections.abc import Callable

PROGRAMS = (("hf",), ("trackio",), ("python", "-m", "agent"))
FENCE = re.compile(r"^```(?:bash|sh|shell|console)\b[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
WORD = re.compile(r"[a-z][a-z0-9-]*")
OPERATOR = re.compile(r"[|&;<>()]+")
ASSIGNED = re.compile(r"[A-Za-z_]\w*=.*")

Help = Callable[[list[str]], str | None]  # of a program and its subcommands; None: they do not exist


def found_in(text: str) -> list[list[str]]:
    """The command lines of known programs, as words: from bash blocks, inline code, or lines that begin with one."""
    blocks = [*FENCE.findall(text), *INLINE.findall(text), text]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found: dict[tuple[str, ...], None] = {}
    for line in lines:
        for argv in commands_of(line):
            if program_of(argv):
                found.setdefault(tuple(argv))
    return [list(argv) for argv in found]


def commands_of(line: str) -> list[list[str]]:
    """The simple commands of a shell line, without assignments before them and without redirections."""
    lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    lexer.wordchars += "@{}:,%+[]!"
    commands: list[list[str]] = [[]]
    try:
        for word in lexer:
            if OPERATOR.fullmatch(word):
                commands.append([])
            elif commands[-1] or not ASSIGNED.fullmatch(word):
                commands[-1].append(word)
    except ValueError:  # an open quote: no command line
        return []
    return [command for command in commands if command]


def program_of(argv: list[str]) -> tuple[str, ...]:
    return next((name for name in PROGRAMS if tuple(argv[: len(name)]) == name and len(argv) > len(name)), ())


def problems(argv: list[str], help_of: Help) -> list[str]:
    """What of a command line does not exist; nothing if all does."""
    program = program_of(argv)
    rest = argv[len(program) :]
    words: list[str] = []
    for word in rest:
        if not WORD.fullmatch(word):
            break
        words.append(word)
    text = help_of([*program, *words])
    if text is None:
        return [f"there is no '{' '.join([*program, *words])}'"]
    wrong = []
    for at, word in enumerate(rest):
        if word == "--" or word.endswith(".py"):  # what follows belongs to another program
            break
        if word.startswith("-") and not re.fullmatch(r"-\d+", word):
            wrong += option_problems(word, rest[at + 1 : at + 2], text, " ".join([*program, *words]))
    return wrong


def option_problems(word: str, following: list[str], text: str, command: str) -> list[str]:
    name, equals, value = word.partition("=")
    line = next((line for line in text.splitlines() if has_option(line, name)), None)
    if line is None:
        return [f"'{command}' has no option {name}"]
    listed = re.search(r"[\[{]([\w:.-]+(?:[|,][\w:.-]+)+)[\]}]", line)
    given = value if equals else next(iter(following), "")
    if listed and given and given not in re.split(r"[|,]", listed[1]):
        return [f"'{command} {name}' does not take '{given}'"]
    return []


def has_option(line: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", line) is not None
