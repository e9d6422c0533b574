"""Files of this host in a sandbox that cannot share them: copied in at their own paths, and a folder copied back.

What comes back is untrusted: plain files and folders only, never through a link, never over what was only lent to read.
"""

import os
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from agent.sandbox.open import Sandbox, SandboxGone

CARGO = "/tmp/.modelsmith.tar"
PIECE = 1024 * 1024


def put(sandbox: Sandbox, paths: Iterable[Path]) -> None:
    for path in paths:
        top = path if path.is_dir() else path.parent
        made = f"mkdir -p {shlex.quote(str(top))} 2>/dev/null && test -w {shlex.quote(str(top))}"
        owned = f"sudo mkdir -p {shlex.quote(str(top))} && sudo chown $(id -u) {shlex.quote(str(top))}"
        run(sandbox, f"{made} || {{ {owned}; }}")
        with tempfile.TemporaryFile() as cargo:
            with tarfile.open(fileobj=cargo, mode="w") as tar:
                for one in [path] if path.is_file() else sorted(path.iterdir()):
                    tar.add(one, arcname=one.name)
            cargo.seek(0)
            sandbox.remote.files.write(CARGO, cargo)
        run(sandbox, f"tar -xf {CARGO} -C {shlex.quote(str(top))} && rm {CARGO}")


def bring_back(sandbox: Sandbox, folder: Path, kept: list[Path]) -> None:
    """The folder as it is inside now. What was removed there stays here."""
    run(sandbox, f"tar -cf {CARGO} -C {shlex.quote(str(folder))} .")
    with tempfile.TemporaryFile() as cargo:
        for piece in sandbox.remote.files.read(CARGO, format="stream"):
            cargo.write(piece)
        cargo.seek(0)
        unpack(cargo, folder, kept)


def unpack(cargo: IO[bytes], folder: Path, kept: list[Path]) -> None:
    with tarfile.open(fileobj=cargo) as tar:
        for member in tar:
            place = folder / member.name
            real = Path(os.path.realpath(place))
            if not (member.isfile() or member.isdir()) or real != Path(os.path.abspath(place)):
                continue
            if not real.is_relative_to(folder) or any(real.is_relative_to(path) for path in kept):
                continue
            if member.isdir():
                place.mkdir(exist_ok=True)
                continue
            source = tar.extractfile(member)
            assert source
            half = place.with_name(f".{place.name[:200]}.part")
            half.unlink(missing_ok=True)
            with half.open("xb") as file:
                shutil.copyfileobj(source, file, PIECE)
            half.replace(place)


def run(sandbox: Sandbox, line: str) -> None:
    code, _, said = sandbox.command(line, timeout=0)
    if code:
        raise SandboxGone(f"Files could not be copied ({line[:100]}): {said.strip()[-300:]}")
