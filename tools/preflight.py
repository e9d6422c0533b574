"""A script's rehearsal before it may cost anything: `preflight` runs the skill's own program and reads its findings.

A script that is word for word what its plan renders to is rehearsed here, as it would be trained here. Any other is
generated code: whoever calls the tool says where such code may run (`rehearsing_in`). A verdict holds for the script
as it was; a changed train.py has none.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tools import envelope
from tools.context import ToolError
from tools.declare import tool
from tools.jobs.trust import distrust
from tools.training import KITS, digest, read_run

PROGRAM = KITS / "preflight.py"

# Runs `python PROGRAM <folder>` where generated code may run, and leaves preflight.json in that folder on the host.
Rehearse = Callable[[Path], None]
WHERE: ContextVar[Rehearse | None] = ContextVar("where a script may be rehearsed", default=None)


@contextmanager
def rehearsing_in(rehearse: Rehearse) -> Iterator[None]:
    token = WHERE.set(rehearse)
    try:
        yield
    finally:
        WHERE.reset(token)


@tool("free")
def preflight(run: str) -> dict:
    """Rehearse a run's script on a shrunk model in about a minute; nothing is submitted without it.

    Two steps with the real rows, tokenizer and template, a checkpoint and a generation. Each finding says what is
    wrong and what to do. After a change of train.py it has to be done again.

    Args:
        run: The run's name, from write_training_script.
    """
    folder, _ = read_run(run)
    rehearse = WHERE.get()
    if rehearse is None:
        foreign = distrust(folder)
        if foreign is not None:
            raise ToolError(
                f"It is not rehearsed on this machine, because {foreign}. A person can run: python {PROGRAM} {folder}"
            )
        rehearse = on_this_machine  # word for word ours: what may train on the host may be rehearsed there
    path = folder / "preflight.json"
    path.unlink(missing_ok=True)
    rehearse(folder)
    if not path.exists():
        raise ToolError("The preflight ended without a result. Look at the sandbox's memory and disk, then try again.")
    told = json.loads(path.read_text(encoding="utf-8"))
    rows = [["ok" if one["ok"] else "FAILS", one["check"], one["what"], one["mend"]] for one in told["findings"]]
    note = f"Passed in {told['seconds']} s." if told["passed"] else "Mend what fails, then run preflight again."
    title = f"Preflight of {run}"
    return envelope.table(title, ["", "check", "what", "what to do"], rows, note, passed=told["passed"], run=run)


def verdict(run: str) -> dict[str, Any] | None:
    """The preflight's result for the script as it is now, or None when there is none or the script has changed."""
    folder, _ = read_run(run)
    path = folder / "preflight.json"
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    return told if told.get("digest") == digest(folder / "train.py") else None


def passed(run: str) -> bool:
    told = verdict(run)
    return bool(told and told["passed"])


def on_this_machine(folder: Path) -> None:
    """Rehearse with this Python and no jail: for tests, and for a person who asks for it."""
    command = [sys.executable, str(PROGRAM), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode not in (0, 1):
        raise ToolError(f"The preflight could not run: {ended.stderr.strip()[-500:]}")
