"""A state of a kernel's project: the skill's own program, run in the jail, and its evidence read back.

The skill, the author's sources and the spec are lent read-only: a kernel cannot change what judges it.
"""

import sys
from pathlib import Path
from typing import Any

from tools import envelope
from tools.context import ToolError, here
from tools.kernel import place

SECONDS = {"spec": 240, "scaffold": 120, "compile": 900, "numerics": 1200, "load": 300, "microbench": 1200,
           "endtoend": 1200, "report": 120, "publish": 120}  # fmt: skip
MARKS = {"pass": "ok", "fail": "FAILS", "not_run": "not run"}


def run(folder: Path, state: str, *options: str, lent: list[Path] | None = None) -> dict[str, Any]:
    """Run one state in the jail and return its evidence."""
    jail = here().jail
    if jail is None:
        raise ToolError("There is no sandbox here, and generated code is not run on the host itself.")
    place.forget(folder, state)
    reads = [place.SKILL, *(lent or [])]
    if state != "spec":
        reads.append(folder / "kernel.json")
    if (folder / "sources").is_dir():
        reads.append(folder / "sources")
    env = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if here().offline:
        env["HF_HUB_OFFLINE"] = "1"
    command = [sys.executable, str(place.SKILL / "scripts" / f"{state}.py"), str(folder), *options]
    tell = here().progress
    ended = jail.run(
        folder, command, timeout=SECONDS[state], env=env, reads=reads, line=lambda text: tell(None, f"{state}: {text}")
    )
    found = place.evidence(folder, state)
    if ended.end != "exited":
        raise ToolError(
            f"{state} did not end by itself ({ended.end} after {ended.seconds:.0f} s): {last(ended.output)}"
        )
    if ended.exit_code == 2:
        raise ToolError(last(ended.output).removeprefix("error: "))
    if found is None:
        raise ToolError(f"{state} left no evidence (exit code {ended.exit_code}): {ended.output.strip()[-600:]}")
    return found


def last(output: str) -> str:
    return (output.strip().splitlines() or ["it said nothing"])[-1][:600]


def told(kernel: str, found: dict[str, dict[str, Any]], next_step: str) -> dict[str, Any]:
    """What states found, as one table; `passed` is false as soon as one of them failed."""
    rows = []
    for state, one in found.items():
        for part in one["parts"]:
            figures = part["reason"] or brief(part["numbers"])
            rows.append([MARKS.get(part["status"], part["status"]), state, part["name"], part["label"], figures])
    failed = [state for state, one in found.items() if one["status"] == "fail"]
    notes = [f"{note['level']}: {note['text'][:1500]}" for one in found.values() for note in one.get("findings", [])]
    note = "\n".join([*notes, f"Failed: {', '.join(failed)}. Mend it and try again." if failed else next_step])
    columns = ["", "state", "what", "how it is known", "figures"]
    more = {"kernel": kernel, "passed": not failed, "states": {name: one["status"] for name, one in found.items()}}
    return envelope.table(f"Kernel {kernel}", columns, rows, note, **more)


def brief(numbers: dict[str, Any]) -> str:
    shown = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in numbers.items()
             if not isinstance(value, dict | list))  # fmt: skip
    return ", ".join(shown)[:200]
