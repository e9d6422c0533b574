"""What one sandbox gets that others do not: folders of this host at their own paths, and room of its own.

A lending is asked for by its name, as a template, and is a file in the server's root that is taken once. Only the
person whose server it is can write there, so the server's key alone lends nobody anything. A sandbox of another uid is
made the owner of what it may write, and what it leaves is given back when it has ended; of what it may read it gets a
copy where its owner alone can read it.
"""

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .config import Share
from .limits import Limits

MARK = "lent-"


@dataclass(frozen=True)
class Lending:
    shares: list[Share] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)  # fields of Limits

    def leave(self, root: Path) -> str:
        """Put it where the server of that root finds it; the template's name by which to ask."""
        name = MARK + secrets.token_hex(16)
        place = root / "lent" / f"{name}.json"
        place.parent.mkdir(exist_ok=True, mode=0o700)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(self.to_json(), file)
        return name

    @classmethod
    def take(cls, root: Path, name: str) -> "Lending | None":
        place = root / "lent" / f"{name}.json"
        if not name.startswith(MARK) or not name.removeprefix(MARK).isalnum() or not place.is_file():
            return None
        try:
            return cls.from_json(json.loads(place.read_text()))
        finally:
            place.unlink()

    def to_json(self) -> dict[str, Any]:
        return {"shares": [{**asdict(one), "host": str(one.host)} for one in self.shares], "limits": self.limits}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Lending":
        shares = [Share(Path(one["host"]), one["inside"], one["write"]) for one in told.get("shares", [])]
        return cls(shares, dict(told.get("limits", {})))

    def limited(self, usual: Limits) -> Limits:
        return replace(usual, **self.limits)  # type: ignore[arg-type]

    def writable(self) -> Iterator[Path]:
        return (share.host for share in self.shares if share.write)

    def readable(self, uid: int, folder: Path) -> "Lending":
        """The same where that user can read all of it, if need be as copies in a folder of the sandbox."""
        shares = [
            one if one.write else opened(one, uid, folder / str(number)) for number, one in enumerate(self.shares)
        ]
        return replace(self, shares=shares)

    def own(self, uid: int, gid: int) -> None:
        """Make somebody the owner of all that may be written. No link is followed, whatever code has put there."""
        for top in self.writable():
            give(top, uid, gid)


def give(top: Path, uid: int, gid: int) -> None:
    for _, folders, files, at in os.fwalk(top, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)
        os.fchown(at, uid, gid)


def open_to_all(top: Path) -> bool:
    paths = [top, *top.rglob("*")] if top.is_dir() else [top]
    modes = (one.lstat().st_mode for one in paths)
    return all(stat.S_ISLNK(mode) or (mode & 0o004 and (mode & 0o001 or not stat.S_ISDIR(mode))) for mode in modes)


def opened(share: Share, uid: int, copy: Path) -> Share:
    if open_to_all(share.host):
        return share
    copy.parent.mkdir(exist_ok=True, mode=0o711)
    if share.host.is_dir():
        shutil.copytree(share.host, copy, symlinks=True, dirs_exist_ok=True)
        give(copy, uid, uid)
    else:
        shutil.copyfile(share.host, copy)
        os.chown(copy, uid, uid)
    return replace(share, host=copy)
