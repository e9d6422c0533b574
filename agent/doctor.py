"""Looks at everything a session stands on, by using it, and says how to mend what is wrong.

Each check is a function from the settings to one finding. Nothing is changed, except that the embedded server may be
started and a sandbox opened and closed again. Offline, nothing beyond loopback is asked and the finding says so.
"""

import logging
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from agent import __version__
from agent.errors import Trouble, UserError
from agent.settings import Settings

GIB = 2**30
REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
SHOWN = ("smolagents", "e2b-code-interpreter", "huggingface_hub", "gradio", "torch", "transformers", "trl")
WANTED = ("repo.write", "job.write")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """`mend` is what to do; empty when there is nothing."""

    name: str
    state: Literal["ok", "warn", "bad"]
    text: str
    mend: str = ""


Check = Callable[[Settings], Finding]


def examine(settings: Settings, checks: dict[str, Check] | None = None) -> Iterator[Finding]:
    """One finding after the other, as they are made; of all checks, or of these."""
    for name, check in (checks or CHECKS).items():
        try:
            yield check(settings)
        except (UserError, Trouble) as error:
            what, _, mend = str(error).rstrip(".").partition(". ")
            yield Finding(name, "bad", what, mend)
        except Exception as error:
            log.debug("the check of %s broke", name, exc_info=True)
            yield Finding(name, "bad", f"the check broke: {type(error).__name__}: {error}", "see --debug")


def versions(settings: Settings) -> Finding:
    """What one is asked for in a report of a fault. An older Python than wanted cannot even read this file."""
    told = [f"modelsmith {__version__}", f"python {platform.python_version()}", platform.platform(terse=True)]
    return Finding("versions", "ok", ", ".join(told + [f"{name} {found}" for name in SHOWN if (found := known(name))]))


def known(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def packages(settings: Settings) -> Finding:
    """Installed versions against the pinned ones."""
    pins = re.findall(r"^([\w-]+)==([\w.+]+)", REQUIREMENTS.read_text(), re.MULTILINE) if REQUIREMENTS.exists() else []
    missing, other = [], []
    for name, wanted in pins:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.partition("+")[0] != wanted.partition("+")[0]:
            other.append(f"{name} {found} (pinned {wanted})")
    mend = f"pip install -r {REQUIREMENTS.name}"
    if missing:
        return Finding("packages", "bad", f"not installed: {', '.join(missing)}", mend)
    if other:
        return Finding("packages", "warn", f"other versions than tested: {', '.join(other)}", mend)
    return Finding("packages", "ok", f"{len(pins)} as pinned" if pins else "no requirements.txt to compare with")


def home(settings: Settings) -> Finding:
    """Ours, writable, and closed to others."""
    from agent.store import Store

    with Store.open(settings.home) as store:  # makes the folder, refuses a damaged log
        kept = len(store.sessions(limit=1_000_000))
    open_to = [path for path in private_files(settings.home) if path.stat().st_mode & 0o077]
    if open_to:
        names = ", ".join(path.name for path in open_to)
        return Finding("home", "bad", f"others can read {names}", f"chmod 600 {' '.join(map(str, open_to))}")
    if settings.home.stat().st_mode & 0o022:
        return Finding("home", "bad", f"others can write to {settings.home}", f"chmod 700 {settings.home}")
    return Finding("home", "ok", f"{settings.home}, {kept} session{'' if kept == 1 else 's'}")


def private_files(folder: Path) -> list[Path]:
    names = ("sessions.db", "config.toml", "chat_history", "sandbox/server.json")
    return [folder / name for name in names if (folder / name).exists()]


def disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(settings.home).free / GIB
    text = f"{free:.1f} GiB free at {settings.home}"
    if free < 2:
        return Finding("disk", "bad", text, "free some space, or set MODELSMITH_HOME to a larger disk")
    if free < 20:
        return Finding("disk", "warn", text, "enough to talk; models and checkpoints want 20 GiB and more")
    return Finding("disk", "ok", text)


def memory(settings: Settings) -> Finding:
    available = available_memory() / GIB
    text = f"{available:.1f} GiB available"
    if available < 1:
        return Finding("memory", "bad", text, "close other programs; a sandbox alone wants 1 GiB")
    if available < 4:
        return Finding("memory", "warn", text, "small models only; use a job elsewhere to train")
    return Finding("memory", "ok", text)


def available_memory() -> int:
    """What this process may still take: the machine's, or what its container leaves."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group = Path("/sys/fs/cgroup")
    try:
        told = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(told[1]) * 1024 if told else free
        limit = (group / "memory.max").read_text().strip()
        return free if limit == "max" else min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return free


def gpu(settings: Settings) -> Finding:
    from agent.models.recommend import memory_here

    gpus = memory_here().gpus
    if gpus:
        return Finding("gpu", "ok", ", ".join(f"{name}, {gib:.0f} GiB" for name, gib in gpus))
    where = "small models train on the CPU" + ("" if settings.offline else "; larger ones as jobs elsewhere")
    return Finding("gpu", "warn", "none that nvidia-smi tells of", where)


def jail(settings: Settings) -> Finding:
    from agent.sandbox.daemon import embedded_config
    from agent.sandbox.embedded import wall

    found = wall.backend(embedded_config(settings))
    if found.name == "bwrap":
        return Finding("jail", "ok", "bubblewrap")
    if found.name == "landlock":
        return Finding("jail", "warn", f"Landlock ({found.reason})", "install bubblewrap: apt install bubblewrap")
    mend = "apt install bubblewrap and allow user namespaces, or use E2B with E2B_API_KEY"
    return Finding("jail", "warn" if settings.e2b_api_key else "bad", f"none ({found.reason})", mend)


def sandbox(settings: Settings) -> Finding:
    """Opens one and runs a cell; where that would cost money, it only asks whether the key is taken."""
    from agent.sandbox import manage
    from agent.sandbox.open import open_sandbox
    from agent.sandbox.place import place

    where = place(settings)
    if where.name == "e2b":
        return Finding("sandbox", "ok", f"E2B cloud takes the key, {len(manage.listing(settings))} sandboxes")
    opened = open_sandbox(settings, metadata={"made-by": "doctor"})
    try:
        cell = opened.run_cell("print(6 * 7)", deadline=60)
    finally:
        opened.close()
    if cell.end != "ok" or "42" not in "".join(cell.execution.logs.stdout):
        return Finding("sandbox", "bad", f"a cell ended as {cell.end}", "see sandbox/server.log in the home folder")
    return Finding("sandbox", "ok", f"{where.name}, a cell ran in {cell.seconds:.2f} s")


def model(settings: Settings) -> Finding:
    """Which one a session would take. Whether it answers well is asked by `models check`."""
    from agent.models.resolve import resolve

    choice = resolve(
        settings.model,
        offline=settings.offline,
        hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
        api_key=settings.model_key.get_secret_value() if settings.model_key else None,
        profiles=settings.home / "models",
    )
    if choice.kind == "recipes":
        return Finding("model", "warn", choice.why, "`python -m agent models` says which model to start here")
    return Finding("model", "ok", f"{choice.label}: {choice.why}; `models check` asks it more")


def token(settings: Settings) -> Finding:
    if settings.hf_token is None:
        return Finding("token", "ok", "no Hugging Face token: public data only")
    from huggingface_hub import constants

    if settings.offline or constants.HF_HUB_OFFLINE:
        return Finding("token", "ok", "there is one; offline, so nobody was asked what it may do")
    from httpx2 import TransportError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        told = HfApi(token=settings.hf_token.get_secret_value()).whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        return Finding("token", "bad", f"the Hub refuses it ({status})", "make a new one and run `hf auth login`")
    except TransportError:
        return Finding("token", "warn", f"{constants.ENDPOINT} does not answer", "check the network, or work --offline")
    role, scopes = scopes_of(told.get("auth", {}).get("accessToken", {}))
    text = f"{told.get('name')}, role {role}" + (f": {', '.join(scopes)}" if role == "fineGrained" else "")
    lacking = [scope for scope in WANTED if role != "write" and scope not in scopes]
    if lacking:
        return Finding("token", "warn", text, f"publishing and jobs want a token that may write: {', '.join(lacking)}")
    return Finding("token", "ok", text)


def scopes_of(access: dict[str, Any]) -> tuple[str, list[str]]:
    """A token's role, and what a fine-grained one may do anywhere."""
    fine = access.get("fineGrained") or {}
    scoped = [name for entry in fine.get("scoped", []) for name in entry.get("permissions", [])]
    return access.get("role", "unknown"), sorted({*fine.get("global", []), *scoped})


CHECKS: dict[str, Check] = {
    check.__name__: check for check in (versions, packages, home, disk, memory, gpu, jail, sandbox, model, token)
}
