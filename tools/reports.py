"""The report of a run: one Markdown page with its curves, true from submission on and complete at the end.

It is written twice: into the run's folder, and as `training_reports/<model>-<dataset>-<method>.md` where the person
works; there a later run of the same model, data and method takes the page over. Nothing in it is told from memory: each
number is read from the run's files when the page is written.
"""

import base64
import logging
import re
import time
from pathlib import Path
from typing import Any

from tools import envelope
from tools.context import ToolError, here
from tools.declare import tool
from tools.running import curves, page, record
from tools.running.state import Standing, standing

REPORT = "report.md"
OFTEN = 30  # seconds between two reports of a run that goes on
SMALL = 200 * 1024 * 1024  # local data up to this size is audited for the report when nobody did it before
log = logging.getLogger(__name__)


@tool("free")
def write_report(run: str) -> dict:
    """Write the report of a run: data, plan, cost, curves, verdict, samples, how to reproduce it and use the model.

    Args:
        run: The run's name. A run that is not finished gets a report of how it stands.

    Returns:
        The report; also written to report.md in the run's folder and to training_reports/ where you work, with `path`.
    """
    folder = record.folder_of(run)
    audited(folder)
    picture = curves.png(folder)
    written = write(folder, standing(folder), here().folder / "training_reports", picture)
    plot = envelope.plot(f"Curves of {run}", base64.b64encode(picture).decode()) if picture else None
    text = record.read_text(folder / REPORT)
    return envelope.report(text, f"Report of {run}", run=run, path=str(written), picture=plot)


def keep_current(folder: Path, now: Standing) -> None:
    """Write the report anew when it may have something new to say. A full disk must not stop whoever asked for more."""
    place = record.job(folder).get("reports")
    path = folder / REPORT
    if place is None:
        return
    if path.exists():
        age = time.time() - path.stat().st_mtime
        newest = max((one.stat().st_mtime for one in sources(folder)), default=0.0)
        if now.state == state_told(path) and (age < OFTEN or newest < path.stat().st_mtime):
            return
    try:
        write(folder, now, Path(place), curves.png(folder))
    except OSError as problem:
        log.warning("the report of %s could not be written: %s", folder.name, problem)


def sources(folder: Path) -> list[Path]:
    names = ("job.json", "result.json", "eval.json", "progress.json", "alerts.jsonl")
    return [path for path in (folder / name for name in names) if path.exists()]


def state_told(path: Path) -> str:
    """The state a report tells; none when it is not ours to read."""
    try:
        found = re.search(r"^State: \*\*(\w+)\*\*", record.read_text(path), re.M)
    except OSError:
        return ""
    return found[1] if found else ""


def write(folder: Path, now: Standing, place: Path, picture: bytes | None) -> Path:
    """Both pages and both pictures; the path of the one for people."""
    plan = record.part(folder / "plan.json")
    name = title_of(plan)
    if picture:
        (folder / "curves.png").unlink(missing_ok=True)
        record.write_bytes(folder / "curves.png", picture)
    record.write_text(folder / REPORT, hidden(page.markdown(folder, plan, now, "curves.png" if picture else None)))
    try:
        place.mkdir(parents=True, exist_ok=True)
        if picture:
            record.write_bytes(place / f"{name}.png", picture)
        shown = f"{name}.png" if picture else None
        record.write_text(place / f"{name}.md", hidden(page.markdown(folder, plan, now, shown)))
    except OSError as problem:
        raise ToolError(f"{place} cannot be written: {problem.strerror}. The report is at {folder / REPORT}.") from None
    return place / f"{name}.md"


def hidden(text: str) -> str:
    """A script may print what it was given to sign in with; a page that is kept must not."""
    token = here().hf_token
    return text.replace(token, "***") if token else text


def title_of(plan: dict[str, Any]) -> str:
    parts = [short((plan.get(key) or {}).get("id", "")) for key in ("model", "dataset")]
    return "-".join([*parts, str(plan.get("method", "run"))])


def short(id: str) -> str:
    """The last part of a Hub id or path, as a piece of a file's name."""
    last = id.rstrip("/").rpartition("/")[2]
    last = re.sub(r"\.(jsonl?|csv|tsv|parquet|arrow|txt)(\.\w+)?$", "", last)
    return re.sub(r"[^A-Za-z0-9.]+", "-", last).strip("-.")[:60] or "data"


def audited(folder: Path) -> None:
    """Leave an audit.json in the folder when the data is here, small enough, and nobody has audited it for this run."""
    data = record.part(folder / "plan.json").get("dataset") or {}
    path = Path(data.get("id") or "-")
    if (folder / "audit.json").exists() or not path.exists() or size(path) > SMALL:
        return
    from tools.data.audit import audit

    try:
        facts = audit(str(path), None, None, 2048, None)
    except ToolError as problem:
        log.info("no audit of %s: %s", path, problem)
        return
    record.write(folder / "audit.json", facts)


def size(path: Path) -> int:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)
