"""Unpacking an archive that a stranger made: names stay inside, links stay inside, size and number are counted as they
come out, not as the archive claims.

Zip and tar (plain or gzip). Nothing is executed, and no owner, mode or time of the archive is kept.
"""

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from agent.errors import UserError

ARCHIVE_MOST = 50 * 1024 * 1024  # the file itself
UNPACKED_MOST = 50 * 1024 * 1024
MEMBERS_MOST = 2000
SUFFIXES = (".zip", ".skill", ".tar", ".tar.gz", ".tgz")


class Hostile(UserError):
    """The archive tries something that no skill needs."""


def unpack(archive: Path, into: Path) -> None:
    if archive.stat().st_size > ARCHIVE_MOST:
        raise Hostile(f"{archive.name} is larger than {ARCHIVE_MOST >> 20} MiB. A skill is small; unpack it yourself.")
    target = Unpacking(into)
    try:
        if zipfile.is_zipfile(archive):
            from_zip(archive, target)
        else:
            from_tar(archive, target)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, NotImplementedError) as error:
        raise UserError(f"{archive.name} cannot be unpacked: {error}. Pack it anew as .zip or .tar.gz.") from None
    target.link()


class Unpacking:
    """Writes members below one folder, counting; links are made last, so that nothing is written through one."""

    def __init__(self, into: Path):
        self.into = into
        self.members = self.bytes = 0
        self.links: list[tuple[Path, str]] = []

    def place(self, name: str) -> Path:
        self.members += 1
        if self.members > MEMBERS_MOST:
            raise Hostile(f"the archive has more than {MEMBERS_MOST} entries. A skill is small; pack only the skill.")
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name.partition("/")[0] or not name.isprintable():
            raise Hostile(f"the archive writes outside its folder ({name[:80]!r}). Do not use it.")
        return self.into / parts

    def folder(self, name: str) -> None:
        self.place(name).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, source: IO[bytes]) -> None:
        path = self.place(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                while piece := source.read(64 * 1024):
                    self.count(len(piece))
                    file.write(piece)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise Hostile(f"the archive holds {name[:80]!r} twice. Do not use it.") from None

    def count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > UNPACKED_MOST:
            raise Hostile(
                f"the archive unpacks to more than {UNPACKED_MOST >> 20} MiB. A skill is small; do not use it."
            )

    def link_later(self, name: str, target: str) -> None:
        path = self.place(name)
        lands = os.path.normpath(path.parent / target)
        if os.path.isabs(target) or not Path(lands).is_relative_to(self.into):
            raise Hostile(f"the archive links out of its folder ({name[:80]!r} to {target[:80]!r}). Do not use it.")
        self.links.append((path, target))

    def link(self) -> None:
        for path, target in self.links:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                raise Hostile(f"the archive holds {path.name[:80]!r} twice. Do not use it.")
            path.symlink_to(target)


def from_zip(archive: Path, target: Unpacking) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            if member.flag_bits & 1:
                raise UserError(f"{archive.name} is encrypted. Unpack it yourself and add the folder.")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                target.folder(member.filename)
            elif kind == stat.S_IFLNK:
                if member.file_size > 4096:
                    raise Hostile(f"the archive has a link of {member.file_size} bytes. Do not use it.")
                target.link_later(member.filename, packed.read(member).decode("utf-8", "replace"))
            elif kind in (0, stat.S_IFREG):
                with packed.open(member) as source:
                    target.file(member.filename, source)
            else:
                raise Hostile(f"the archive holds a device or pipe ({member.filename[:80]!r}). Do not use it.")


def from_tar(archive: Path, target: Unpacking) -> None:
    with plain_stream(archive) as stream, tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as packed:
        for member in packed:
            if member.isdir():
                target.folder(member.name)
            elif member.issym():
                target.link_later(member.name, member.linkname)
            elif member.isreg():
                source = packed.extractfile(member)
                assert source is not None
                target.file(member.name, source)
            else:
                raise Hostile(f"the archive holds a device, pipe or hard link ({member.name[:80]!r}). Do not use it.")


@contextmanager
def plain_stream(archive: Path) -> Iterator["Counted"]:
    with archive.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not zipped:
            yield Counted(file)
        else:
            with gzip.open(file) as stream:
                yield Counted(stream)


class Counted:
    """A stream that ends in an error before it fills the memory: headers of a tar can claim any size, too."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile):
        self.stream = stream
        self.left = UNPACKED_MOST + 2 * MEMBERS_MOST * 1024  # headers and padding

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise Hostile(
                f"the archive unpacks to more than {UNPACKED_MOST >> 20} MiB. A skill is small; do not use it."
            )
        piece = self.stream.read(size)
        self.left -= len(piece)
        return piece
