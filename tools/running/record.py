"""A run's folder and its job.json: who was asked to run it, when, how often, and how each attempt ended.

Written whole or not at all. No secret is ever in it. A script may write into its folder whatever it likes, so no link
in there is followed.
"""

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.context import ToolError, here

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


def runs_folder() -> Path:
    return here().home / "runs"


def names() -> list[str]:
    """All runs, the newest first."""
    plans = sorted(runs_folder().glob("*/plan.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent.name for path in plans]


def folder_of(run: str) -> Path:
    folder = runs_folder() / run
    if NAME.fullmatch(run) and (folder / "plan.json").exists():
        return folder
    known = names()
    have = f"There are: {', '.join(known[:5])}." if known else "Call write_training_script(plan) to make one."
    raise ToolError(f"There is no run '{run}'. {have}")


def read_text(path: Path) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8", errors="replace") as file:
        return file.read()


def lines(path: Path) -> list[str]:
    try:
        return read_text(path).splitlines()
    except OSError:
        return []


def read(path: Path) -> Any:
    """The JSON of a file that may not be there yet, or may have been cut by a crash: then None."""
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError):
        return None


def part(path: Path) -> dict[str, Any]:
    found = read(path)
    return found if isinstance(found, dict) else {}


def write(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with half.open("xb") as file:
        file.write(data)
    half.replace(path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Two that start one run at the same time: the second is told so."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    with os.fdopen(os.open(folder / "lock", flags, 0o600), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ToolError(f"The run {folder.name} is being started right now. Look with run_status.") from None
        yield


def job(folder: Path) -> dict[str, Any]:
    return part(folder / "job.json")


def last_attempt(folder: Path) -> dict[str, Any] | None:
    attempts = job(folder).get("attempts") or []
    return attempts[-1] if attempts else None


def add_attempt(folder: Path, ref: dict[str, Any], **told: Any) -> None:
    """A new attempt behind those before; `told` also becomes the run's own: hardware, minutes, forced, reports."""
    record = job(folder)
    attempts = [*record.get("attempts", []), {"ref": ref, "submitted": time.time(), "from_step": resumes_at(folder)}]
    write(folder / "job.json", {**record, "run": folder.name, **told, "attempts": attempts})


def close_attempt(folder: Path, ended: dict[str, Any]) -> None:
    """How the last attempt ended, kept before another one overwrites the traces."""
    record = job(folder)
    if record.get("attempts"):
        record["attempts"][-1]["end"] = ended
        write(folder / "job.json", record)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest that was written to its end."""
    found = [
        path
        for path in (folder / "checkpoints").glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit() and (path / "trainer_state.json").exists()
    ]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def resumes_at(folder: Path) -> int:
    checkpoint = last_checkpoint(folder)
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
