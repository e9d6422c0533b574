"""Starts the real server as its own process for the tests, as root or as an ordinary user."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ORDINARY = 4711  # a uid that owns nothing
PRODUCT = ("-m", "agent")


@dataclass
class Served:
    url: str
    key: str
    home: Path
    process: subprocess.Popen

    @property
    def options(self) -> dict[str, str]:
        """What the SDK's calls take."""
        return {"api_key": self.key, "api_url": self.url, "sandbox_url": self.url}

    @property
    def environment(self) -> dict[str, str]:
        """What a program that uses the SDK needs around it."""
        urls = {"E2B_API_URL": self.url, "E2B_SANDBOX_URL": self.url, "E2B_API_KEY": self.key}
        return {**os.environ, **urls, "PYTHONPATH": str(ROOT)}

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")


@contextmanager
def serving(
    home: Path,
    *arguments: str,
    ordinary: bool = False,
    opened: bool = False,
    program: tuple[str, ...] = PRODUCT,
    python: Path = Path(sys.executable),
    **environment: str,
) -> Iterator[Served]:
    """A server with its own home folder; stopped with SIGTERM at the end. `program` starts it."""
    home.mkdir(parents=True, exist_ok=True)
    ready, tell = os.pipe()
    command = [str(python), *program, "sandbox", "serve", "--port", "0", "--tell-fd", str(tell), *arguments]
    if ordinary:
        os.chown(home, ORDINARY, ORDINARY)
        command = as_ordinary_user(command, home)
    if opened:
        command = as_ordinary_user(command, home, 0)
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            pass_fds=(tell,),
            stdout=log,
            stderr=log,
            env={**os.environ, "MODELSMITH_HOME": str(home), **environment},
        )
    os.close(tell)
    with os.fdopen(ready) as pipe:
        answered = pipe.readline()
    try:
        assert answered, f"the server did not start: {(home / 'log').read_text()}"
        told = json.loads((home / "sandbox" / "server.json").read_text())
        yield Served(told["url"], told["key"], home, process)
    finally:
        process.terminate()
        process.wait(30)


def as_ordinary_user(command: list[str], home: Path, uid: int = ORDINARY) -> list[str]:
    """Run as a plain uid (or, with 0, as root). Folders on the way that only root may enter are opened in a mount
    namespace of the command's own: a plain copy of the folder's chain, with the needed parts bound in."""
    needed = {Path(sys.prefix), Path(sys.base_prefix), ROOT, home}
    closed = {parent for path in needed for parent in path.parents if parent.stat().st_mode & 0o001 == 0}
    lines = ["set -e", "mount -t tmpfs -o mode=0755 stage /mnt"]
    tops = [path for path in closed if not any(other != path and path.is_relative_to(other) for other in closed)]
    inside = {top: sorted(path for path in needed if path.is_relative_to(top)) for top in tops}
    for number, (top, paths) in enumerate(inside.items()):
        for index, path in enumerate(paths):
            lines.append(f"mkdir -p /mnt/{number}.{index}; mount --bind {shlex.quote(str(path))} /mnt/{number}.{index}")
        lines.append(f"mount -t tmpfs -o mode=0755 open {shlex.quote(str(top))}")
        for index, path in enumerate(paths):
            lines.append(
                f"mkdir -p {shlex.quote(str(path))}; mount --bind /mnt/{number}.{index} {shlex.quote(str(path))}"
            )
    lines += ["umount /mnt/* || true; umount /mnt", f"cd {shlex.quote(str(ROOT))}"]
    drop = f"exec setpriv --reuid {uid} --regid {uid} --clear-groups env HOME={shlex.quote(str(home))} "
    return ["unshare", "--mount", "sh", "-c", "\n".join([*lines, drop + shlex.join(command)])]
