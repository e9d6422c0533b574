"""Runs on the page: how each stands, its plan, script, report, log and curves; cancel, resume, compare.

All of it is read anew from the run's folder and from Trackio's rows in there, never from printed text. A person sees
the runs of their own folder only.
"""

import math
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from agent.settings import Settings
from agent.ui.asking import Ask, Refusal, route
from agent.ui.files import picture
from tools import context, evaluation, preflight, reports
from tools import runs as tool
from tools.context import Context, ToolError
from tools.jobs.local import LOG
from tools.running import metrics, page, record
from tools.running.diagnosis import diagnose
from tools.running.state import ENDS, Standing, facts, standing

if TYPE_CHECKING:
    from agent.ui.server import Server

POINTS = 1_000  # of one curve
PIECE = 256 * 1024  # of a log
FRESH = 1.0  # seconds that a look at a run that goes on is good for
NAME = re.compile(r"[\w.-]+\.(?:png|jpe?g|webp|gif)")
SOURCES = ("job.json", "result.json", "eval.json", "progress.json")


def routes(server: "Server") -> list[BaseRoute]:
    one = "/x/runs/{run}"
    return [
        route(server, "/x/runs", get=within(listed)),
        route(server, "/x/runs/compare", get=within(compare)),
        route(server, one, get=within(show)),
        route(server, f"{one}/log", get=within(read_log)),
        route(server, f"{one}/metrics", get=within(curves)),
        route(server, f"{one}/cancel", post=within(lambda ask: tool.cancel_run(ask.path["run"]))),
        route(server, f"{one}/resume", post=within(lambda ask: tool.resume_run(ask.path["run"]))),
        route(server, f"{one}/pictures/{{name}}", get=within(shown)),
    ]


def within(handler: Callable[[Ask], Any]) -> Callable[[Ask], Any]:
    """The handler in the surroundings of a tool of this person."""

    def run(ask: Ask) -> Any:
        settings = ask.server.settings_for(ask.person)
        with context.inside(surroundings(settings, ask.server.work_folder(ask.person))):
            done = handler(ask)
        return done if isinstance(done, Response) else clean(ask.server.store.redactor.value(done))

    return run


def surroundings(settings: Settings, folder: Path) -> Context:
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return Context(
        home=settings.home, folder=folder, offline=settings.offline, confined=settings.confined, hf_token=token
    )


def folder_of(ask: Ask) -> Path:
    try:
        return record.folder_of(ask.path["run"])
    except ToolError:
        raise Refusal(404, "There is no such run. It may have been removed.") from None


# -- the list --------------------------------------------------------------------------------------------------------


class Looks:
    """Each run's row as it was when it was last looked at: judging one takes long, and the page asks every moment. An
    ended run is looked at again only when its files change."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[Path, tuple[tuple[float, ...], float, dict[str, Any]]] = {}

    def row(self, folder: Path) -> dict[str, Any]:
        stamp = tuple(path.stat().st_mtime if path.exists() else 0.0 for path in (folder / name for name in SOURCES))
        with self.lock:
            seen, when, kept = self.known.get(folder, ((), 0.0, {}))
        if kept and seen == stamp and (kept["state"] in ENDS or time.monotonic() - when < FRESH):
            return kept
        made = row(folder, standing(folder))
        with self.lock:
            self.known[folder] = stamp, time.monotonic(), made
        return made


looks = Looks()


def listed(ask: Ask) -> list[dict[str, Any]]:
    names = record.names()
    if ask.query.get("session"):
        ask.path["id"] = ask.query["session"]
        mine = of_session(ask)
        names = [name for name in names if name in mine]
    return [looks.row(record.runs_folder() / name) for name in names[:200]]


def of_session(ask: Ask) -> set[str]:
    """The runs that its tool calls were about."""
    found: set[str] = set()
    for event in ask.server.store.all(ask.session().id):
        for part in (event.data.get("arguments"), event.data.get("result")):
            if event.type in ("tool_call", "tool_result") and isinstance(part, dict):
                told = [part.get("run"), part.get("ref"), *(part["runs"] if isinstance(part.get("runs"), list) else [])]
                found |= {name for name in told if isinstance(name, str)}
    return found


def row(folder: Path, now: Standing) -> dict[str, Any]:
    plan = record.part(folder / "plan.json")
    attempts = record.job(folder).get("attempts") or []
    return {
        "run": folder.name,
        "state": now.state,
        "reason": now.reason,
        "model": (plan.get("model") or {}).get("id"),
        "dataset": (plan.get("dataset") or {}).get("id"),
        "method": plan.get("method"),
        "started": attempts[0].get("submitted") if attempts else None,
        "progress": min(1.0, now.step / now.planned) if now.planned else None,
        "step": now.step,
        "steps": now.planned,
        "eta_seconds": now.eta_seconds,
        "usd": facts(folder, now)["usd"],
        "numbers": now.numbers,
        "verdict": evaluation.verdict(folder)["verdict"] if now.state == "succeeded" else None,
    }


def compare(ask: Ask) -> dict[str, Any]:
    return tool.compare_runs([name for name in ask.query.get("runs", "").split(",") if name])


# -- one run ---------------------------------------------------------------------------------------------------------


def show(ask: Ask) -> dict[str, Any]:
    folder = folder_of(ask)
    now = standing(folder)
    return row(folder, now) | {
        "plan": record.part(folder / "plan.json"),
        "preflight": preflight.verdict(folder.name),
        "job": record.job(folder),
        "alerts": now.alerts[-20:],
        "diagnosis": diagnose(folder, now) or None,
        "judged": evaluation.verdict(folder) if now.state == "succeeded" else None,
        "report": report(folder, now),
        "script": "\n".join(record.lines(folder / "train.py")),
    }


def report(folder: Path, now: Standing) -> str:
    """As it was written when the run ended, else as it would be written now."""
    told = folder / reports.REPORT
    if now.over and told.is_file() and not told.is_symlink():
        return record.read_text(told)
    curves_there = "curves.png" if (folder / "curves.png").is_file() else None
    return reports.hidden(page.markdown(folder, record.part(folder / "plan.json"), now, curves_there))


def read_log(ask: Ask) -> dict[str, Any]:
    """A piece of what was printed, from a byte on; `next` is where to go on."""
    folder, after = folder_of(ask), ask.number("after")
    try:
        handle = os.open(folder / LOG, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # nothing yet, or its runner keeps the log elsewhere
        text = "\n".join(tool.read_logs(folder.name, tail=2_000))
        return {"text": text[after:], "next": len(text)}
    with os.fdopen(handle, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = after if after <= size else 0  # another attempt began anew
        file.seek(max(start, size - PIECE) if "after" not in ask.query else start)
        start = file.tell()
        data = file.read(PIECE)
    return {"text": reports.hidden(data.decode(errors="replace")), "next": start + len(data), "size": size}


def curves(ask: Ask) -> dict[str, Any]:
    """Points after a row of Trackio's table; a value that is no number is null."""
    folder, after, last = folder_of(ask), ask.number("after"), 0
    found: dict[str, dict[int, float | None]] = {}
    for number, text in metrics.rows(folder, "select id, metrics from metrics where run_name = ? order by id"):
        last = max(last, number)
        if number > after:
            for name, step, value in metrics.points(text):
                found.setdefault(name, {})[step] = value if math.isfinite(value) else None
    series = {name: thinned(sorted(points.items())) for name, points in found.items()}
    return {"series": series, "next": max(last, after)}


def thinned(points: list[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """At most so many, the first and the last among them."""
    if len(points) <= POINTS:
        return points
    step = (len(points) - 1) / (POINTS - 1)
    return [points[round(at * step)] for at in range(POINTS)]


def shown(ask: Ask) -> Response:
    folder, name = folder_of(ask), ask.path["name"]
    path = folder / name
    if not NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
        raise Refusal(404, "There is no such picture.")
    return picture(path)


def clean(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean(inner) for inner in value]
    return value
