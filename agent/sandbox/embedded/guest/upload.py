"""A file arrives whole or not at all: it is written beside its target under a temporary name and renamed at the end.

Links to the target are followed and its mode stays. Other hard links keep the old content, parent directories that were
made stay, and a guest that is killed in the middle leaves the temporary file behind.
"""

import contextlib
import errno
import os
import stat
from typing import Self

from .entries import METADATA

# The watcher knows uploads by these names and reports the file that comes of them instead.
FRESH = ".upload-fresh-"
REPLACING = ".upload-replacing-"


class Upload:
    def __init__(self, path: str):
        self.target = os.path.realpath(path)
        mode = mode_of_existing(self.target)
        folder = os.path.dirname(self.target)
        os.makedirs(folder, exist_ok=True)
        self.temporary = os.path.join(folder, (FRESH if mode is None else REPLACING) + os.urandom(8).hex())
        self.fd = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if mode is not None:
            os.fchmod(self.fd, mode)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def describe(self, metadata: dict[str, str]) -> dict[str, str]:
        """Store metadata with the file; what comes back is what was stored: nothing where the filesystem cannot."""
        try:
            for key, value in metadata.items():
                os.setxattr(self.fd, METADATA + key, value.encode())
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            return {}
        return metadata

    def commit(self) -> None:
        os.rename(self.temporary, self.target)
        self.temporary = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        if self.temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.temporary)


def mode_of_existing(target: str) -> int | None:
    """The mode a file to be replaced has, None when there is none. Only a regular, writable file may be replaced."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", target)
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
    return stat.S_IMODE(found.st_mode) & 0o777
