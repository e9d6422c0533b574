"""Sandboxes where bubblewrap cannot run: behind Landlock, or, if the person typed so, with no wall at all.

Both lack what namespaces give: home is a folder of the host at its own path, there is no /tmp of its own and no way out
through the proxy. Behind Landlock there is no network of any kind, not even inside; without a wall there is all of it.
"""

import asyncio
import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from . import landlock, seccomp
from .guest.wire import HttpError
from .jail import GUEST, SYSTEM_PATH, Jail, Plan, readable_by_others, system_folders
from .limits import Cage, rlimits


class OpenJail(Jail):
    """There is no wall: code runs as the person who typed `--unsafe-no-sandbox`.

    A clean environment and the limits are left."""

    @classmethod
    def prepare(cls, plan: Plan) -> None:
        """Home, a folder that stands in for /run and /tmp, and the guest's code by the name it is imported under."""
        plan.uid = None
        folders(plan)

    @classmethod
    def told(cls, plan: Plan) -> dict:
        return {"home": str(plan.home), "run": str(plan.folder / "run")}

    @staticmethod
    def command(plan: Plan, cage: Cage, guest_config: dict, filter_fd: int) -> list[str]:
        return guest_command(plan, guest_config)

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        await asyncio.to_thread(self.close)


class LandlockJail(Jail):
    """For root: each sandbox is a uid of its own behind Landlock, and a filter leaves it unix sockets alone."""

    @classmethod
    def open_root(cls, root: Path) -> None:
        """They may pass through, not look: every file in there keeps its own mode."""
        for folder in (root, root / "sandboxes"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)

    @classmethod
    def prepare(cls, plan: Plan) -> None:
        """Without mounts, what root alone may enter cannot be opened for the sandbox's user."""
        needed = {plan.folder: "Set MODELSMITH_HOME to", plan.python.resolve().parent: "Install Python in"}
        for path, mend in needed.items():
            if not readable_by_others(path):
                raise HttpError(500, f"{path} is closed to other users. {mend} a folder they may enter.")
        folders(plan)

    @classmethod
    def told(cls, plan: Plan) -> dict:
        return {"home": str(plan.home), "run": str(plan.folder / "run")}

    @classmethod
    def filter_fd(cls) -> int:
        return seccomp.filter_fd(seccomp.filter_bytes_without_network())

    @staticmethod
    def command(plan: Plan, cage: Cage, guest_config: dict, filter_fd: int) -> list[str]:
        assert plan.uid is not None
        readable = [*system_folders(plan.python), GUEST, plan.folder / "code", Path("/etc")]
        readable += [share.host for share in plan.shares if not share.write]
        writable = [plan.home, plan.folder / "run", *(share.host for share in plan.shares if share.write)]
        inner = landlock.command(plan.uid, filter_fd, guest_command(plan, guest_config), ro=readable, rw=writable)
        return ["sh", "-c", f'{cage.enter_script()}\nexec "$@"', "sh", *inner]

    async def kill(self) -> None:
        """There is no namespace to tear down: everything of this uid ends, which is this sandbox alone."""
        assert self.plan.uid is not None
        await asyncio.to_thread(landlock.kill_user, self.plan.uid)
        await super().kill()


def folders(plan: Plan) -> None:
    for name in ("home", "run", "code"):
        (plan.folder / name).mkdir(exist_ok=True)
        if plan.uid is not None:
            shutil.chown(plan.folder / name, plan.uid, plan.uid)
    link = plan.folder / "code" / "guest"
    if not link.is_symlink():
        link.symlink_to(GUEST)


def guest_command(plan: Plan, guest_config: dict) -> list[str]:
    environment = {
        "GUEST": json.dumps(guest_config),
        "PATH": SYSTEM_PATH,
        "HOME": str(plan.home),
        "TMPDIR": str(plan.folder / "run"),
        "LANG": "C.UTF-8",
    }
    named = [f"{name}={value}" for name, value in environment.items()]
    code = plan.folder / "code"
    start = f"import sys; sys.path.insert(0, {str(code)!r}); from guest.__main__ import main; main()"
    return ["env", "-i", *named, "/usr/bin/prlimit", *rlimits(plan.limits), str(plan.python), "-I", "-c", start]
