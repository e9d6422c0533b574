"""The embedded server of this person on this machine: find the one that runs, or start it.

It is a process of its own, so that a sandbox outlives the command that made it; it leaves by itself once it has been
idle for a while. Its key lies in `server.json`, readable by its owner alone.
"""

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from agent.errors import UserError
from agent.sandbox.embedded.config import Config, Share
from agent.sandbox.embedded.limits import Limits
from agent.settings import Settings

IDLE_EXIT = 900


@dataclass(frozen=True)
class Address:
    url: str
    key: str


def root(settings: Settings) -> Path:
    return settings.home / "sandbox"


def embedded_config(settings: Settings) -> Config:
    """The server's configuration as these settings want it."""
    wanted = {
        "memory_mb": settings.sandbox_memory_mb,
        "pids": settings.sandbox_pids,
        "cpus": settings.sandbox_cpus,
        "disk_mb": settings.sandbox_disk_mb,
    }
    missing = [share.host for share in settings.sandbox_shares if not share.host.is_dir()]
    if missing:
        raise UserError(f"The shared folder {missing[0]} does not exist. Create it or change sandbox_shares.")
    counts = {"max_sandboxes": settings.sandbox_max, "pool": settings.sandbox_pool}
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
    """The server that answers now, if one does."""
    try:
        told = json.loads((root(settings) / "server.json").read_text())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{told['url']}/health", timeout=5):
            return Address(told["url"], told["key"])
    except (OSError, ValueError, KeyError):
        return None


def ensure(settings: Settings) -> Address:
    """The running server, or a new one. Several processes may ask at once: the server's own lock lets one start win."""
    found = running(settings)
    if found:
        return found
    root(settings).mkdir(parents=True, exist_ok=True, mode=0o700)
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
        pipe.readline()
    found = running(settings)
    if found is None:
        process.wait()
        last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(last.removeprefix("error: "))
    return found


def server_environment(settings: Settings) -> dict[str, str]:
    """The settings that concern the server, as environment; credentials stay out of its process."""
    kept = {name: value for name, value in os.environ.items() if not secret(name)}
    said = {
        "HOME": str(settings.home),
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
