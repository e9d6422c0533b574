"""What every view is, and the words that all of them use for the same event."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.cli.view.clean import clean, one_line, visible
from agent.events import ENDS, Event

CARD_LINES = 40  # of the arguments; a person may ask for the rest


class View:
    """`show` gets each event once, in order. `notice` is a line of the program itself, not of the session."""

    typed = False  # whether the person's own words stand on the screen already

    def begin(self) -> None:
        """A turn starts; a view that shows what is long over is never told so."""

    def show(self, event: Event) -> None:
        raise NotImplementedError

    def notice(self, line: str) -> None:
        print(clean(line), file=sys.stderr, flush=True)

    def card(self, card: dict[str, Any], most: int = CARD_LINES) -> None:
        """What a person is asked to allow."""
        print("\n".join(["", *card_lines(card, most)]), file=sys.stderr, flush=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While this is held the terminal belongs to somebody else."""
        yield

    def flush(self) -> None:
        """The turn is over: what was held back comes out."""

    def leave(self) -> None:
        """The process ends now, perhaps in the middle of a line; called from a signal handler."""


def card_lines(card: dict[str, Any], most: int = CARD_LINES) -> list[str]:
    """An approval card as text in which nothing can hide."""
    where = f" at {one_line(card['where'])}" if card.get("where") else ""
    lines = [f"{one_line(card.get('what') or card.get('tool'))}{where}"]
    left = card.get("left_usd")
    budget = "" if left is None else f", ${left:.2f} left in the budget"
    lines.append(f"{one_line(card.get('tool'))} ({one_line(card.get('risk'))}), {one_line(card.get('price'))}{budget}")
    if card.get("note"):
        lines.append(one_line(card["note"]))
    if card.get("minutes") is not None:
        lines.append(f"up to {card['minutes']:g} minutes")
    if card.get("origin") not in (None, "model"):
        lines.append(f"asked for by {one_line(card['origin'])}")
    arguments = [line for name, value in card.get("arguments", {}).items() for line in argument_lines(name, value)]
    lines += arguments[:most]
    if len(arguments) > most:
        lines.append(f"… {len(arguments) - most} more lines (v shows all)")
    return lines


def argument_lines(name: str, value: Any) -> list[str]:
    """Long text is shown as it is, line by line; everything else as JSON."""
    if isinstance(value, str) and "\n" in value:
        return [f"  {visible(name)}:", *(f"    {line}" for line in visible(value).split("\n"))]
    return [f"  {visible(name)}: {visible(json.dumps(value, ensure_ascii=False, default=str))}"]


def call_line(data: dict[str, Any], most: int = 160) -> str:
    """`name(a='b', c=1)`."""
    shown = ", ".join(f"{name}={value!r}" for name, value in data["arguments"].items())
    return one_line(f"{data['tool']}({shown})", most)


def result_line(data: dict[str, Any]) -> str:
    seconds = duration(data["seconds"])
    if not data["ok"]:
        return f"{one_line(data['tool'])} failed after {seconds}: {one_line(data.get('error', ''), 500)}"
    return f"{one_line(data['tool'])} {seconds}{told(data.get('result'))}"


def told(result: Any) -> str:
    """What came back, in a few words."""
    if not isinstance(result, dict):
        return ""
    kind, title = result.get("type"), one_line(result.get("title") or "", 80)
    if kind == "table":
        return f" → table{f' “{title}”' if title else ''}, {len(result.get('rows', [])):,} rows"
    return f" → {one_line(kind, 20)}{f' “{title}”' if title else ''}" if kind else ""


def approval_line(data: dict[str, Any]) -> str | None:
    """None for what needed nobody: free calls and settlements."""
    if data["decision"] == "ask":
        return f"asks: {one_line(data['what'], 300)}"
    gated = data.get("priced") or data["risk"] in ("publish", "destructive")
    if data["decision"] == "deny":
        return f"refused: {one_line(data['what'], 300)}: {one_line(data['reason'], 300)}"
    if data["decision"] == "allow" and gated:
        return f"allowed: {one_line(data['what'], 300)} ({one_line(data['reason'])})"
    return None


def artifact_line(data: dict[str, Any], home: Path) -> str:
    title = f"{one_line(data['title'], 80)}: " if data.get("title") else ""
    return f"{title}{one_line(home / data['path'])}"


def job_line(data: dict[str, Any]) -> str:
    parts = [one_line(data[name]) for name in ("id", "state") if data[name]]
    if data.get("progress") is not None:
        parts.append(f"{share(data['progress']):.0%}")
    if data.get("eta_seconds") is not None:
        parts.append(f"{duration(data['eta_seconds'])} left")
    if data.get("usd") is not None:
        parts.append(f"${data['usd']:.2f}")
    return " ".join(parts + [one_line(data[name], 200) for name in ("detail", "url") if data.get(name)])


def metric_line(data: dict[str, Any]) -> str:
    step = "" if data.get("at_step") is None else f" step {data['at_step']:g}"
    values = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in data["values"].items()
    )
    return one_line(f"{data['run']}{step}: {', '.join(values)}", 300)


def error_lines(data: dict[str, Any]) -> list[str]:
    found = clean(data["text"]).strip().split("\n")
    if data.get("hint"):
        found.append(one_line(data["hint"]))
    return found


def state_line(data: dict[str, Any], said: str = "") -> str | None:
    """None when there is nothing to say but that it goes on. A reason that was `said` as an error is not repeated."""
    detail = data.get("detail", {})
    if "plan" in detail:
        return plan_line(detail["plan"])
    if "model" in detail:
        return f"model {one_line(detail['model'])}: {one_line(detail.get('why', ''))}".rstrip(": ")
    if "sandbox" in detail:
        return f"sandbox {one_line(detail['sandbox'])} ({one_line(detail.get('place', ''))})"
    if data["state"] in ENDS or data.get("reason"):
        reason = data.get("reason") or ""
        return f"{data['state']}: {one_line(reason)}" if reason and reason != said else data["state"]
    return None


def plan_line(plan: dict[str, Any]) -> str:
    """How far it is and what comes next."""
    steps, done = plan["steps"], plan["done"]
    return f"plan {done} of {len(steps)} done" + (f", now: {one_line(steps[done], 100)}" if done < len(steps) else "")


def share(progress: float) -> float:
    """0 to 1, whatever was reported."""
    return min(1.0, max(0.0, float(progress))) if progress == progress else 0.0


def duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
