"""Asks the person at the terminal whether something may be done, and takes only an answer that was typed after the
question appeared. The question goes away by itself when it was answered elsewhere or the turn ended.
"""

import os
import select
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.cli.view import View

GLANCE = 0.2  # seconds between looks at whether the question still stands
ALL = 1_000_000


@dataclass(frozen=True)
class Verdict:
    """`session_usd` also allows later calls of this kind, up to that many dollars."""

    allowed: bool
    session_usd: float | None = None
    reason: str = ""


def terminal() -> bool:
    """Whether a person can be asked: questions go to stderr, answers come from stdin."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(view: View, card: dict[str, Any], stands: Callable[[], bool]) -> Verdict | None:
    """None when the question went away."""
    with view.aside():
        view.card(card)
        return _decide(view, card, stands)


def _decide(view: View, card: dict[str, Any], stands: Callable[[], bool]) -> Verdict | None:
    while True:
        line = read_line("Allow this? [y]es once, [a]lways in this session, [n]o (with a reason), [v]iew all: ", stands)
        if line is None:
            return None
        word, _, rest = line.strip().partition(" ")
        match word.lower():
            case "y" | "yes":
                return Verdict(True)
            case "n" | "no" | "":
                return Verdict(False, reason=rest.strip())
            case "v" | "view":
                view.card(card, most=ALL)
            case "a" | "always":
                usd = _limit(card, rest, stands)
                if usd is not None:
                    return Verdict(True, session_usd=usd)
            case _:
                view.notice("Answer y, a, n or v.")


def _limit(card: dict[str, Any], typed: str, stands: Callable[[], bool]) -> float | None:
    """Up to how many dollars calls of this kind may add up in this session; None when the person thought again."""
    if card.get("usd") == 0 and card.get("usd_max") == 0:
        return 0.0
    typed = typed or read_line("Up to how many dollars in this session, this one included? ", stands) or ""
    try:
        usd = float(typed.strip().removeprefix("$"))
    except ValueError:
        return None
    return usd if 0 <= usd < float("inf") else None


def read_line(prompt: str, stands: Callable[[], bool]) -> str | None:
    """One line, or None when it need not be answered any more. A closed terminal answers with an empty line."""
    import termios

    source = sys.stdin.fileno()
    termios.tcflush(source, termios.TCIFLUSH)
    print(prompt, end="", file=sys.stderr, flush=True)
    while stands():
        if select.select([source], [], [], GLANCE)[0]:
            return os.read(source, 4096).decode(errors="replace").split("\n")[0]
    print(file=sys.stderr)
    return None
