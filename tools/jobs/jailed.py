"""A run's folder in the jail: what of it a script cannot change, and what else of this host it may read.

Once a script was in the jail with it, nothing in the folder is vouched for any more: a mark says so, out of its reach.
"""

import json
from pathlib import Path

from tools.context import ToolError, here
from tools.jobs.trust import JAILED
from tools.training import KITS

OURS = ("plan.json", "train.py", "env.lock", "audit.json", "job.json")
LOST = 125  # the exit code by which a jailed job says that nobody knows how its program ended


def mark(folder: Path) -> None:
    (folder / JAILED).parent.mkdir(exist_ok=True)
    (folder / JAILED).touch()


def lent(folder: Path) -> list[Path]:
    """The skill's programs, the plan's local model and data, and of the folder itself what is ours."""
    mark(folder)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    model, data = plan.get("model") or {}, plan.get("dataset") or {}
    found = [KITS, (folder / JAILED).parent, *(folder / name for name in OURS)]
    found += [cached(name) or at(name) for name in (model.get("id"), model.get("teacher")) if name]
    found += [at(data["id"])] if data.get("id") else []
    return [path for path in found if path.exists()]


def at(name: str) -> Path:
    return here().folder / Path(name).expanduser()


def cached(name: str) -> Path | None:
    """Where the Hub's library keeps a model of that name here."""
    from huggingface_hub import constants

    path = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    return path if "/" in name and path.is_dir() and not at(name).exists() else None


def environment(folder: Path, paths: list[Path]) -> dict[str, str]:
    """Where the lent copy of a Hub model is found. It is not fetched anew: this host's token stays here."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    names = [name for name in ((plan.get("model") or {}).get("id"), (plan.get("model") or {}).get("teacher")) if name]
    kept = [cached(name) for name in names]
    if not any(kept):
        return {}
    if not all(path in paths for path in kept if path):
        raise ToolError("A model of the Hub's cache could not be lent.")
    told = {"HF_HUB_CACHE": str(next(path for path in kept if path).parent)}
    local = at((plan.get("dataset") or {}).get("id") or "").exists()
    return told | ({"HF_HUB_OFFLINE": "1"} if local else {})
