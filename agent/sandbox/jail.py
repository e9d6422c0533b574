"""The `jail` of the tools' context, over sandboxes. Light to make: a command that runs nothing in it need not wait.

What happens in a run is in jailed.py.
"""

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.errors import UserError
from agent.settings import Settings
from tools.context import Detached, Ended, Line, ToolError, here

CONCERNED = {name for name in Settings.model_fields if name.startswith("sandbox")}
CONCERNED |= {"offline", "unsafe_no_sandbox", "e2b_api_url", "e2b_sandbox_url", "e2b_template"}
AGENT = Path(__file__).parents[2]


class SandboxJail:
    def __init__(self, settings: Settings):
        self.settings = settings

    def run(
        self,
        folder: Path,
        command: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        reads: Sequence[Path] = (),
        line: Line = lambda text: None,
        grace: float = 10,
        cancel: threading.Event | None = None,
    ) -> Ended:
        from agent.sandbox import jailed

        try:
            return jailed.run(
                self.settings, folder, command,
                timeout=timeout, env=env or {}, reads=reads, line=line, grace=grace, cancel=cancel or here().cancel,
            )  # fmt: skip
        except UserError as error:
            raise ToolError(str(error)) from None

    def detached(
        self, folder: Path, command: Sequence[str], *, env: Mapping[str, str], reads: Sequence[Path]
    ) -> Detached:
        """`-P`: what a program has left in the folder must never be imported by us."""
        argv = [sys.executable, "-P", "-m", "agent", "sandbox", "run", str(folder)]
        argv += [part for path in reads for part in ("--read", str(path))]
        argv += [part for name, value in env.items() for part in ("--env", f"{name}={value}")]
        key = self.settings.e2b_api_key
        secrets = {"E2B_API_KEY": key.get_secret_value()} if key else {}
        return Detached([*argv, "--", *command], environment(self.settings), secrets)


def environment(settings: Settings) -> dict[str, str]:
    """These settings for a process of their own; keys go another way."""
    said = settings.model_dump(mode="json", exclude={"home", "sandbox_allow", "sandbox_shares"}, exclude_none=True)
    said = {name: value for name, value in said.items() if name in CONCERNED}
    said |= {"home": settings.home, "sandbox_shares": json.dumps(settings.model_dump(mode="json")["sandbox_shares"])}
    if settings.sandbox_allow is not None:
        said["sandbox_allow"] = ",".join(settings.sandbox_allow) or "none"
    return {"PYTHONPATH": str(AGENT)} | {f"MODELSMITH_{name.upper()}": str(value) for name, value in said.items()}
