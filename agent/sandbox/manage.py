"""Look after the sandboxes that the settings lead to, by the official SDK's control calls alone.

It sees those of the same key, whoever made them. Looking starts nothing: while no embedded server runs, only paused
sandboxes can be there, and they are read from disk.
"""

from datetime import UTC, datetime
from typing import Any

from e2b_code_interpreter import Sandbox

from agent.sandbox import daemon
from agent.sandbox.embedded import cgroups, wall
from agent.sandbox.place import name_of, place, reaching, standing
from agent.settings import Settings


def status(settings: Settings) -> dict[str, Any]:
    """Where sandboxes run, how they are jailed, and how many there are."""
    where, name = standing(settings), name_of(settings)
    told: dict[str, Any] = {"place": name}
    if name != "embedded":
        assert where
        told["url"] = where.options.get("api_url", "the SDK's default")
        told["template"] = where.template or "the SDK's default"
    elif found := daemon.running(settings):
        told["server"] = f"runs at {found.url}, process {found.pid}"
    else:
        told["server"] = "does not run; it starts when a sandbox is opened"
    if name == "embedded":
        told["jail"] = jail(settings)
        told["caps"] = caps()
        told["folder"] = str(daemon.root(settings))
    states = [row["state"] for row in listing(settings)]
    return told | {"running": states.count("running"), "paused": states.count("paused")}


def jail(settings: Settings) -> str:
    """Which wall is used here, found by trying it."""
    found = wall.backend(daemon.embedded_config(settings))
    if found.name != "bwrap" and settings.unsafe_no_sandbox:
        return f"none, as unsafe_no_sandbox allows ({found.reason})"
    named = {
        "bwrap": "bubblewrap with seccomp",
        "landlock": "Landlock with seccomp, a weaker wall",
        "none": "none works",
    }
    return named[found.name] + (f" ({found.reason})" if found.reason else "")


def caps() -> str:
    """What holds memory, processes and CPU here, found by trying it."""
    found = cgroups.find()
    return f"held by {found.version}" if found else "no cgroup: memory and processes are watched, CPU is not held"


def listing(settings: Settings) -> list[dict[str, Any]]:
    """Every sandbox, running or paused, as plain JSON values."""
    where = standing(settings)
    if where is None:
        return [
            {
                "id": record["id"],
                "state": "paused",
                "started": moment(datetime.fromtimestamp(record["started_at"], UTC)),
                "ends": moment(datetime.fromtimestamp(record["end_at"], UTC)),
                "metadata": record["metadata"],
            }
            for record in daemon.asleep(settings)
        ]
    rows: list[dict[str, Any]] = []
    with reaching(where):
        pages = Sandbox.list(**where.options)
        while pages.has_next:
            rows += [
                {
                    "id": info.sandbox_id,
                    "state": info.state.value,
                    "started": moment(info.started_at),
                    "ends": moment(info.end_at),
                    "metadata": info.metadata,
                }
                for info in pages.next_items()
            ]
    return rows


def moment(when: datetime) -> str:
    return when.isoformat(timespec="seconds")


def kill(settings: Settings, sandbox: str) -> bool:
    """End one sandbox; False when there is none of that id. A paused one needs the server, which is started."""
    where = standing(settings)
    if where is None:
        if sandbox not in {record["id"] for record in daemon.asleep(settings)}:
            return False
        where = place(settings)
    with reaching(where):
        return Sandbox.kill(sandbox, **where.options)
