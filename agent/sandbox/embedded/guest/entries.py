"""Paths and file entries as the E2B SDKs see them: where a path points, what lies there, and the metadata it carries.

A name that is not UTF-8 is shown with U+FFFD in place of the odd bytes, so a listing never breaks; such an entry cannot
be asked for by the name that is shown.
"""

import grp
import os
import pwd
import stat
from datetime import UTC, datetime
from functools import cache
from typing import Any

from .state import Guest

METADATA = "user.e2b."
KINDS = {stat.S_IFREG: "FILE_TYPE_FILE", stat.S_IFDIR: "FILE_TYPE_DIRECTORY", stat.S_IFLNK: "FILE_TYPE_SYMLINK"}


def local(guest: Guest, path: str) -> str:
    """The absolute, clean path a client means. A path that no file can have is a ValueError."""
    if "\0" in path:
        raise ValueError("A path cannot hold a zero byte")
    return os.path.normpath(f"/{str(guest.resolve(path)).lstrip('/')}")


def shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def entry(path: str, user: str) -> dict[str, Any]:
    """EntryInfo in protobuf's JSON. A link is marked and has its target's type; its other fields are its own."""
    found = os.lstat(path)
    info: dict[str, Any] = {
        "name": shown(os.path.basename(path)),
        "type": kind(found.st_mode),
        "path": shown(path),
        "size": str(found.st_size),
        "mode": stat.S_IMODE(found.st_mode),
        "permissions": stat.filemode(found.st_mode),
        "owner": owner(found.st_uid, user),
        "group": group(found.st_gid, user),
    }
    if moment := timestamp(found.st_mtime_ns):
        info["modifiedTime"] = moment
    if stat.S_ISLNK(found.st_mode):
        info |= {"isSymlink": True, "symlinkTarget": shown(os.path.realpath(path)), "type": target_kind(path)}
    elif metadata := read_metadata(path):
        info["metadata"] = metadata
    return info


def kind(mode: int) -> str:
    return KINDS.get(stat.S_IFMT(mode), "FILE_TYPE_UNSPECIFIED")


def target_kind(link: str) -> str:
    """A dangling link stays a link: entries of an unspecified type are left out of listings by the SDK."""
    try:
        return kind(os.stat(link).st_mode)
    except OSError:
        return "FILE_TYPE_SYMLINK"


def timestamp(nanoseconds: int) -> str | None:
    """RFC 3339, or None for a time that lies outside what the format can say."""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    except (ValueError, OverflowError, OSError):
        return None


@cache
def owner(uid: int, user: str) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return user if uid == os.getuid() else str(uid)


@cache
def group(gid: int, user: str) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return user if gid == os.getgid() else str(gid)


def read_metadata(path: str) -> dict[str, str]:
    try:
        names = [name for name in os.listxattr(path) if name.startswith(METADATA)]
        return {shown(name[len(METADATA) :]): os.getxattr(path, name).decode("utf-8", "replace") for name in names}
    except OSError:
        return {}
