"""A run's folder in the jail: what of it a script cannot change, and what else of this host it may read.

Once a script was in the jail with it, nothing in the folder is vouched for any more: a mark says so, out of its reach.
"""

import json
from pathlib import Path
from typing import Any

from tools.context import ToolError, here
from tools.data.source import hidden
from tools.hubs.client import Missing, ask
from tools.jobs.trust import JAILED
from tools.training import KITS

OURS = ("plan.json", "train.py", "env.lock", "audit.json", "job.json")
LOST = 125  # the exit code by which a jailed job says that nobody knows how its program ended


def mark(folder: Path) -> None:
    (folder / JAILED).parent.mkdir(exist_ok=True)
    (folder / JAILED).touch()


def lent(folder: Path) -> list[Path]:
    """The skill's programs, the plan's local models and data, and of the folder itself what is ours."""
    check_open(folder)
    mark(folder)
    models, data = named(folder)
    ours = [KITS, (folder / JAILED).parent, *(folder / name for name in OURS)]
    asked = [cached(name) or at(name) for name in models] + ([at(data)] if data else [])
    here().fence([name for name in (*models, data) if at(name).exists()])
    return [*filter(Path.exists, ours), *(lendable(path) for path in asked if path.exists())]


def check_open(folder: Path) -> None:
    """What a script in the jail will fetch from the Hub must be open to everybody, for it has no token there."""
    models, data = named(folder)
    for name in [*models, data]:
        if not name or at(name).exists() or cached(name):
            continue
        kind = "dataset" if name == data else "model"
        if closed(name, kind):
            method = json.loads((folder / "plan.json").read_text(encoding="utf-8")).get("method")
            fetch = f"prepare_dataset({name!r}, method={method!r})" if kind == "dataset" else f"`hf download {name}`"
            use = " and plan with the folder that it writes" if kind == "dataset" else ""
            raise ToolError(
                f"The {kind} {name} is private or gated, or not there, and this script goes into a sandbox, which has "
                f"no token. Fetch it here first, by {fetch}{use}."
            )


def closed(name: str, kind: str) -> bool:
    """Whether the Hub refuses it to somebody without a token. Who cannot be asked, is not said to refuse."""

    def question(api: Any) -> bool:
        return bool((api.dataset_info if kind == "dataset" else api.model_info)(name).gated)

    try:
        return ask(question, signed=False)[0]
    except Missing:
        return True
    except ToolError:
        return False


def lendable(path: Path) -> Path:
    """A plan may name any path. Hidden places, and folders that hold a whole home or ours, are no data and no model."""
    real, home = path.resolve(), here().home.resolve()
    own = real.is_relative_to(home) and (len(real.relative_to(home).parts) < 2 or real.is_relative_to(home / "sandbox"))
    if own or hidden(real) or home.is_relative_to(real) or Path.home().is_relative_to(real):
        raise ToolError(
            f"{path} is not shown to a script in the sandbox. Copy the data or model to a folder of its own."
        )
    return path


def environment(folder: Path) -> dict[str, str]:
    """Where lent models of the Hub are found. They are not fetched anew: this host's token stays here."""
    models, data = named(folder)
    kept = [path for path in map(cached, models) if path]
    if not kept:
        return {}
    return {"HF_HUB_CACHE": str(kept[0].parent)} | ({"HF_HUB_OFFLINE": "1"} if data and at(data).exists() else {})


def named(folder: Path) -> tuple[list[str], str]:
    """The plan's models and its dataset."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    model = plan.get("model") or {}
    models = [name for name in (model.get("id"), model.get("teacher")) if name]
    return models, (plan.get("dataset") or {}).get("id") or ""


def at(name: str) -> Path:
    return here().folder / Path(name).expanduser()


def cached(name: str) -> Path | None:
    """Where the Hub's library keeps a model of that name here."""
    from huggingface_hub import constants

    path = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    return path if "/" in name and path.is_dir() and not at(name).exists() else None
