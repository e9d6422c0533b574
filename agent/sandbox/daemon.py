"""The embedded server of this person on this machine: find the one that runs, or start it.

It is a process of its own, so that a sandbox outlives the command that made it; it leaves by itself once it has been
idle for a while. Its key lies in `server.json`, readable by its owner alone.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import UserError
from agent.sandbox.embedded.config import Config, Share
from agent.sandbox.embedded.limits import Limits
from agent.sandbox.embedded.rules import Rules
from agent.settings import Settings

IDLE_EXIT = 900
PATIENCE = 30.0  # seconds for another server of this root to answer or to leave


@dataclass(frozen=True)
class Address:
    url: str
    key: str = field(repr=False)
    pid: int = 0
    terms: dict[str, Any] = field(default_factory=dict)  # how it jails, in the words of `Config.terms`
    by_hand: bool = False


def root(settings: Settings) -> Path:
    return (settings.sandbox_home or settings.home) / "sandbox"


def embedded_config(settings: Settings) -> Config:
    """The server's configuration as these settings want it."""
    wanted: dict[str, Any] = {
        "memory_mb": settings.sandbox_memory_mb,
        "pids": settings.sandbox_pids,
        "cpus": settings.sandbox_cpus,
        "disk_mb": settings.sandbox_disk_mb,
    }
    missing = [share.host for share in settings.sandbox_shares if not share.host.is_dir()]
    if missing:
        raise UserError(f"The shared folder {missing[0]} does not exist. Create it or change sandbox_shares.")
    try:
        Rules.build(settings.sandbox_allow or [])
    except ValueError as error:
        raise UserError(f"{error}. Change sandbox_allow.") from None
    counts: dict[str, Any] = {"max_sandboxes": settings.sandbox_max, "pool": settings.sandbox_pool}
    return Config(
        root=root(settings),
        limits=Limits(**{name: value for name, value in wanted.items() if value is not None}),
        allow=settings.sandbox_allow,
        local_only=settings.offline,
        shares=[Share(share.host.resolve(), share.inside, share.write) for share in settings.sandbox_shares],
        unsafe_no_sandbox=settings.unsafe_no_sandbox,
        **{name: count for name, count in counts.items() if count is not None},
    )


def running(settings: Settings) -> Address | None:
    """The server that answers now, if one does. A stale `server.json` leads to nobody: its process must live and be
    ours, so that the key is never shown to a stranger who took over the port."""
    try:
        told = json.loads((root(settings) / "server.json").read_text())
        found = Address(told["url"], told["key"], told["pid"], told["terms"], told["by_hand"])
        if Path("/proc", str(found.pid)).stat().st_uid != os.geteuid():
            return None
        with ask(found, "/health"):
            return found
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ask(server: Address, path: str) -> Any:
    request = urllib.request.Request(server.url + path, headers={"X-API-Key": server.key})
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5)


def ensure(settings: Settings) -> Address:
    """The running server, or a new one; never one whose jails are other than the settings want. An idle server with
    other settings is replaced; one that was started by hand or has sandboxes is left alone and told about."""
    wanted = embedded_config(settings).terms
    if (found := running(settings)) and found.terms == wanted:
        return found
    make_root(settings)
    with locked(root(settings) / "start.lock"):  # who asks meanwhile waits here, then finds what we started
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = running(settings)
            if found and found.terms == wanted:
                return found
            if found:
                retire(found, wanted)
            elif is_free(root(settings) / "server.lock"):
                return start(settings)
            time.sleep(0.05)  # it is about to answer, or to leave
    raise UserError(f"A server holds {root(settings)} and does not answer. End its process, then try again.")


def make_root(settings: Settings) -> None:
    try:
        root(settings).mkdir(parents=True, exist_ok=True, mode=0o700)
        (root(settings) / "start.lock").touch(mode=0o600)
    except OSError as error:
        raise UserError(
            f"{root(settings)} cannot be written: {error.strerror}. Set MODELSMITH_HOME to a folder of yours."
        ) from None


def asleep(settings: Settings) -> list[dict[str, Any]]:
    """The records of paused sandboxes, which lie on disk while no server runs."""
    found = []
    for file in sorted((root(settings) / "sandboxes").glob("*/sandbox.json")):
        try:
            record = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        if record.get("state") == "paused":
            found.append(record)
    return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_free(path: Path) -> bool:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def retire(server: Address, wanted: dict[str, Any]) -> None:
    """Ask an idle server of ours to leave."""
    told = ", ".join(
        "an older or newer program" if name == "code" else f"{name} {server.terms.get(name)} instead of {wanted[name]}"
        for name in wanted
        if server.terms.get(name) != wanted[name]
    )
    if server.by_hand:
        raise UserError(f"The sandbox server that was started by hand has other settings: {told}. Stop it or use them.")
    try:
        with ask(server, "/v2/sandboxes?state=running") as answer:
            count = len(json.load(answer))
    except OSError:
        return  # it is leaving
    if count:
        raise UserError(
            f"The sandbox server has other settings: {told}. Its sandboxes still run: "
            f"end them with `python -m agent sandbox kill --all`, or use those settings."
        )
    os.kill(server.pid, signal.SIGTERM)


def start(settings: Settings) -> Address:
    log = root(settings) / "server.log"
    ready, tell = os.pipe()  # the new server writes one line once it answers, or closes the pipe by dying
    command = [sys.executable, "-m", "agent", "sandbox", "serve", "--port", "0"]
    command += ["--idle-exit", str(IDLE_EXIT), "--tell-fd", str(tell)]
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            pass_fds=(tell,),
            start_new_session=True,
            env=server_environment(settings),
            cwd=Path(__file__).parents[2],
        )
    os.close(tell)
    with os.fdopen(ready) as pipe:
        answered = pipe.readline()
    found = running(settings) if answered else None
    if found is None:
        process.kill()
        process.wait()
        last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        if not last.startswith("error: "):
            last = f"The sandbox server did not start: {last}. {log} tells more."
        raise UserError(last.removeprefix("error: "))
    return found


def server_environment(settings: Settings) -> dict[str, str]:
    """The settings that concern the server, as environment; credentials stay out of its process."""
    kept = {name: value for name, value in os.environ.items() if not secret(name)}
    said = {
        "HOME": str(settings.sandbox_home or settings.home),
        "OFFLINE": settings.offline,
        "UNSAFE_NO_SANDBOX": settings.unsafe_no_sandbox,
        "SANDBOX_MEMORY_MB": settings.sandbox_memory_mb,
        "SANDBOX_PIDS": settings.sandbox_pids,
        "SANDBOX_CPUS": settings.sandbox_cpus,
        "SANDBOX_DISK_MB": settings.sandbox_disk_mb,
        "SANDBOX_MAX": settings.sandbox_max,
        "SANDBOX_POOL": settings.sandbox_pool,
        "SANDBOX_ALLOW": None if settings.sandbox_allow is None else ",".join(settings.sandbox_allow) or "none",
        "SANDBOX_SHARES": json.dumps([share.model_dump(mode="json") for share in settings.sandbox_shares]),
    }
    return kept | {f"MODELSMITH_{name}": str(value) for name, value in said.items() if value is not None}


def secret(name: str) -> bool:
    return any(word in name.upper() for word in ("TOKEN", "KEY", "SECRET", "PASSWORD"))
