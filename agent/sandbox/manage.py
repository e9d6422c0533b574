"""Look after the sandboxes that the settings lead to, by the official SDK's control calls alone.

It sees those of the same key, whoever made them. Asking for the list starts the embedded server when none runs, because
paused sandboxes outlive it on disk.
"""

from typing import Any

from e2b_code_interpreter import Sandbox

from agent.sandbox.place import place
from agent.settings import Settings


def status(settings: Settings) -> dict[str, Any]:
    """Where sandboxes run, and how many there are."""
    where = place(settings)
    states = [row["state"] for row in listing(settings)]
    return {
        "place": where.name,
        "url": where.options.get("api_url", "the SDK's default"),
        "template": where.template or "the SDK's default",
        "running": states.count("running"),
        "paused": states.count("paused"),
    }


def listing(settings: Settings) -> list[dict[str, Any]]:
    """Every sandbox, running or paused, as plain JSON values."""
    pages, rows = Sandbox.list(**place(settings).options), []
    while pages.has_next:
        for info in pages.next_items():
            rows.append(
                {
                    "id": info.sandbox_id,
                    "state": info.state.value,
                    "started": info.started_at.isoformat(timespec="seconds"),
                    "ends": info.end_at.isoformat(timespec="seconds"),
                    "metadata": info.metadata,
                }
            )
    return rows


def kill(settings: Settings, sandbox: str) -> bool:
    """End one sandbox; False when there is none of that id."""
    return Sandbox.kill(sandbox, **place(settings).options)
