"""A script's rehearsal before it may cost anything: `preflight` runs the skill's own program and reads its findings.

A script that is word for word what its plan renders to is rehearsed here, as it would be trained here. Any other is
generated code and goes into the jail. A verdict holds for the script as it was; a changed train.py has none.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from tools import envelope
from tools.context import ToolError, here
from tools.declare import tool
from tools.jobs import jailed
from tools.jobs.trust import distrust
from tools.running import record
from tools.training import KITS, digest, read_run

PROGRAM = KITS / "preflight.py"
SECONDS = 120  # it ends itself before


@tool("free")
def preflight(run: str) -> dict:
    """Rehearse a run's script on a shrunk model in about a minute; nothing is submitted without it.

    Two steps with the real rows, tokenizer and template, a checkpoint and a generation. Each finding says what is
    wrong and what to do. After a change of train.py it has to be done again.

    Args:
        run: The run's name, from write_training_script.
    """
    folder, _ = read_run(run)
    path = folder / "preflight.json"
    path.unlink(missing_ok=True)
    foreign = distrust(folder)
    if foreign is None:
        on_this_machine(folder)
    else:
        in_jail(folder, foreign)
    told = record.part(path)
    if not told:
        raise ToolError("The preflight ended without a result. Look at memory and disk, then try again.")
    rows = [["ok" if one["ok"] else "FAILS", one["check"], one["what"], one["mend"]] for one in told["findings"]]
    note = f"Passed in {told['seconds']} s." if told["passed"] else "Mend what fails, then run preflight again."
    title = f"Preflight of {run}"
    return envelope.table(title, ["", "check", "what", "what to do"], rows, note, passed=told["passed"], run=run)


def verdict(run: str) -> dict[str, Any] | None:
    """The preflight's result for the script as it is now, or None when there is none or the script has changed."""
    folder, _ = read_run(run)
    told = record.part(folder / "preflight.json")
    return told if told and told.get("digest") == digest(folder / "train.py") else None


def passed(run: str) -> bool:
    told = verdict(run)
    return bool(told and told["passed"])


def on_this_machine(folder: Path) -> None:
    """Word for word ours: what may train on the host may be rehearsed there."""
    command = [sys.executable, str(PROGRAM), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if ended.returncode not in (0, 1):
        raise ToolError(f"The preflight could not run: {ended.stderr.strip()[-500:]}")


def in_jail(folder: Path, foreign: str) -> None:
    jail = here().jail
    if jail is None:
        raise ToolError(f"It is not rehearsed on the host itself, because {foreign}, and there is no sandbox here.")
    lent = jailed.lent(folder)
    command, env = [sys.executable, str(PROGRAM), str(folder)], jailed.environment(folder)
    ended = jail.run(folder, command, timeout=SECONDS, env=env, reads=lent)
    if ended.end != "exited" or ended.exit_code not in (0, 1):
        raise ToolError(f"The preflight could not run ({ended.end}): {ended.output.strip()[-500:]}")
