"""What a state found out, as `evidence/<state>.json`: pass, fail or not_run with a reason, and how each part is known.

A recording always leaves a file: an exception becomes a fail with its last line as the reason. A state fails if one
part fails, is not_run if no part ran, and otherwise passes and names what was not run.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from project import Project

STATES = ["spec", "scaffold", "compile", "numerics", "load", "microbench", "endtoend", "report", "publish"]
LABELS = ["measured-GPU", "measured-CPU", "emulated", "compiled-only", "computed", "not run"]
PACKAGES = ["torch", "transformers", "kernels", "triton", "huggingface_hub"]


@dataclass
class Record:
    state: str
    parts: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    findings: list[dict[str, str]] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    def part(self, name: str, status: str, label: str = "not run", reason: str = "", **numbers: Any) -> None:
        """One thing that was tried, printed at once. `label`: how it is known; "not run" for what did not run."""
        if status not in ("pass", "fail", "not_run") or label not in LABELS:
            raise ValueError(f"{name}: status {status!r}, label {label!r}")
        if status == "not_run" and not reason:
            raise ValueError(f"{name} did not run and does not say why")
        label = "not run" if status == "not_run" else label
        told = {"name": name, "status": status, "label": label, "reason": reason, "numbers": numbers}
        self.parts = [one for one in self.parts if one["name"] != name] + [told]
        print(f"  {status:<8} {label:<14} {name}" + brief(told), flush=True)

    def find(self, level: str, text: str) -> None:
        """A finding for people: error, warning or note."""
        self.findings.append({"level": level, "text": text})

    def verdict(self) -> tuple[str, str]:
        failed = [one for one in self.parts if one["status"] == "fail"]
        waiting = [one for one in self.parts if one["status"] == "not_run"]
        if failed:
            return "fail", "; ".join(f"{one['name']}: {one['reason'] or 'failed'}" for one in failed)
        missing = "; ".join(f"{one['name']}: {one['reason']}" for one in waiting)
        if len(waiting) == len(self.parts):
            return "not_run", missing or "nothing was tried"
        return "pass", f"not run: {missing}" if missing else ""


@contextmanager
def recording(state: str, folder: Path) -> Iterator[Record]:
    """Write the evidence of a state into `folder`/evidence, whatever happens within."""
    record = Record(state)
    try:
        yield record
    except BaseException as error:
        record.part("the state itself", "fail", "computed", reason=last_line(error))
        record.find("error", "".join(traceback.format_exception(error))[-4000:])
        raise
    finally:
        write(record, folder)


def last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def write(record: Record, folder: Path) -> dict[str, Any]:
    status, reason = record.verdict()
    told = {
        "state": record.state,
        "status": status,
        "reason": reason,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": versions(),
        "parts": record.parts,
        "numbers": record.numbers,
        "findings": record.findings,
        "device": device(),
        "tree": tree(folder),
        "seconds": round(time.time() - record.began, 1),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    target = folder / "evidence" / f"{record.state}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")
    fresh.replace(target)
    return told


def read(folder: Path, state: str) -> dict[str, Any] | None:
    path = folder / "evidence" / f"{state}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def told(folder: Path, state: str) -> int:
    """Print a state's outcome for people, after its parts; the exit code: 1 for a fail."""
    found = read(folder, state) or {"status": "not_run", "reason": "it left no evidence", "parts": [], "seconds": 0}
    print(f"{state}: {found['status']} in {found['seconds']} s" + (f" ({found['reason']})" if found["reason"] else ""))
    for one in found.get("findings", []):
        print(f"  {one['level']}: {one['text']}")
    return 1 if found["status"] == "fail" else 0


def brief(part: dict[str, Any], most: int = 160) -> str:
    shown = part["reason"] or ", ".join(
        f"{name} {value}" for name, value in part["numbers"].items() if not isinstance(value, dict | list)
    )
    return f": {shown[:most]}" if shown else ""


def tree(folder: Path) -> str:
    """Which state of the project's files this is about; empty before there is a repository."""
    return Project(folder.resolve(), {}).tree_hash() if (folder / ".git").exists() else ""


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["nvcc"] = nvcc_version()
    return found


def nvcc_version() -> str:
    program = shutil.which("nvcc") or f"{os.environ.get('CUDA_HOME', '/usr/local/cuda')}/bin/nvcc"
    if not Path(program).exists():
        return "not installed"
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return shown.rpartition(", V")[2].split()[0] if ", V" in shown else "unknown"


def device() -> dict[str, Any]:
    """This machine: its CPU, and the GPUs torch sees if torch was needed at all."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        model = text.partition("model name")[2].partition("\n")[0].lstrip("\t :")
    found: dict[str, Any] = {"cpu": model, "cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
    torch = sys.modules.get("torch")
    found["gpu"] = torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else None
    return found
