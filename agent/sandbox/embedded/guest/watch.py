"""Watching directories with inotify, through ctypes and the event loop.

Names are relative to the watched directory. Directories that appear later are watched too when asked for; what they
held before they could be watched is announced as created, also when they were moved in whole. A rename is RENAME of
the old name and CREATE of the new one. An upload, which arrives under a temporary name, is reported as the CREATE and
WRITE of the file it becomes. Queues are bounded, and a watch that lost events says so. The end of the watched directory
itself is an event named ".".
"""

import asyncio
import contextlib
import ctypes
import os
import struct
from collections import deque
from io import FileIO
from typing import Any

from .connect import RpcError
from .entries import entry, shown
from .upload import FRESH, REPLACING

QUEUE_LIMIT = 8192
WATCHER_LIMIT = 32
READ_SIZE = 64 * 1024

MODIFY, ATTRIB, MOVED_FROM, MOVED_TO, CREATED, DELETED = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF, UNMOUNT, OVERFLOW, IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
ONLY_DIRECTORY, DONT_FOLLOW, EXCLUDE_UNLINKED, IS_DIRECTORY = 0x1000000, 0x2000000, 0x4000000, 0x40000000
MASK = (
    MODIFY | ATTRIB | MOVED_FROM | MOVED_TO | CREATED | DELETED | DELETE_SELF | MOVE_SELF
    | ONLY_DIRECTORY | EXCLUDE_UNLINKED
)  # fmt: skip
CREATE, WRITE, CHMOD = "EVENT_TYPE_CREATE", "EVENT_TYPE_WRITE", "EVENT_TYPE_CHMOD"
REMOVE, RENAME = "EVENT_TYPE_REMOVE", "EVENT_TYPE_RENAME"
KINDS = {CREATED: CREATE, MOVED_TO: CREATE, MODIFY: WRITE, ATTRIB: CHMOD, DELETED: REMOVE, MOVED_FROM: RENAME}
HEAD = struct.Struct("iIII")

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, path: str = "inotify") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


class Watch:
    """One watched directory. Build it anywhere, `start` it on the event loop, `wait` and `take` what happened."""

    def __init__(self, top: str, recursive: bool, entries_for: str | None = None):
        self.top, self.recursive, self.entries_for = top, recursive, entries_for
        self.file = FileIO(checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)))
        self.paths: dict[int, str] = {}
        self.events: deque[tuple[str, str]] = deque()
        self.news = asyncio.Event()
        self.ended = self.lost = False
        self.announced: set[str] = set()  # told of by a scan; the kernel may have queued the same
        self.uploads: dict[int, bool] = {}  # a rename's cookie → is its target new
        self.moved: dict[int, str] = {}  # a rename's cookie → the directory's old name
        self.add("")
        if recursive:
            self.adopt("", announce=False)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self.file.fileno(), self.read)

    def close(self) -> None:
        if not self.file.closed:
            asyncio.get_running_loop().remove_reader(self.file.fileno())
            self.file.close()

    async def wait(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.news.wait(), max(0, seconds))
        return self.news.is_set()

    @property
    def over(self) -> bool:
        """The directory is gone and all events are taken."""
        return self.ended and not self.news.is_set()

    def take(self) -> list[dict[str, Any]]:
        """The events since the last time, in the protocol's form; after a loss first those kept, then the error."""
        if self.lost and not self.events:
            self.lost = False
            self.news.clear()
            raise RpcError("resource_exhausted", "Events were lost, there were too many. List the directory anew")
        taken, self.events = self.events, deque()
        if not self.lost:
            self.news.clear()
        return [self.described(name, kind) for name, kind in taken]

    def described(self, name: str, kind: str) -> dict[str, Any]:
        event: dict[str, Any] = {"name": shown(name), "type": kind}
        if self.entries_for is not None and kind not in (REMOVE, RENAME):
            with contextlib.suppress(OSError):
                event["entry"] = entry(os.path.join(self.top, name), self.entries_for)
        return event

    def add(self, name: str) -> None:
        path = os.path.join(self.top, name) if name else self.top
        mask = MASK | (DONT_FOLLOW if name else 0)
        self.paths[checked(libc.inotify_add_watch(self.file.fileno(), os.fsencode(path), mask), path)] = name

    def adopt(self, name: str, announce: bool) -> None:
        """Watch a directory and all below it. Those that vanish or may not be read are left out."""
        pending = [name]
        while pending:
            here = pending.pop()
            try:
                self.add(here)
                found = list(os.scandir(os.path.join(self.top, here)))
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            for item in found:
                child = os.path.join(here, item.name)
                if announce:
                    self.announce(child, item)
                if item.is_dir(follow_symlinks=False):
                    pending.append(child)

    def announce(self, name: str, item: os.DirEntry[str]) -> None:
        if item.name.startswith((FRESH, REPLACING)):
            return
        self.announced.add(name)
        self.emit(name, CREATE)
        with contextlib.suppress(OSError):
            if item.is_file(follow_symlinks=False) and item.stat().st_size:
                self.emit(name, WRITE)

    def drop(self, name: str) -> None:
        for watch in [w for w, path in self.paths.items() if path == name or path.startswith(f"{name}/")]:
            libc.inotify_rm_watch(self.file.fileno(), watch)
            del self.paths[watch]

    def read(self) -> None:
        """What the kernel has queued, but not endlessly: other work of the loop must get its turn."""
        for _ in range(8):
            data = self.file.read(READ_SIZE)
            if data is None:
                self.settle()
                return
            at = 0
            while at < len(data):
                watch, mask, cookie, size = HEAD.unpack_from(data, at)
                at += HEAD.size + size
                self.handle(watch, mask, cookie, os.fsdecode(data[at - size : at].rstrip(b"\0")))

    def settle(self) -> None:
        """The queue is empty: a rename without its other half left the tree, and no announcement can be doubled."""
        for name in self.moved.values():
            self.drop(name)
        self.moved.clear()
        self.uploads.clear()
        self.announced.clear()

    def handle(self, watch: int, mask: int, cookie: int, name: str) -> None:
        if mask & OVERFLOW:
            self.lose()
            return
        parent = self.paths.get(watch)
        if mask & IGNORED:
            self.paths.pop(watch, None)
        elif parent == "" and mask & (DELETE_SELF | MOVE_SELF | UNMOUNT):
            self.emit(".", RENAME if mask & MOVE_SELF else REMOVE)
            self.ended = True
        elif parent is not None and name:
            self.handle_entry(os.path.join(parent, name), mask, cookie)

    def handle_entry(self, name: str, mask: int, cookie: int) -> None:
        base = os.path.basename(name)
        if base.startswith((FRESH, REPLACING)):
            if mask & MOVED_FROM:
                self.uploads[cookie] = base.startswith(FRESH)
            return
        if mask & MOVED_TO and cookie in self.uploads:
            if self.uploads.pop(cookie) and name not in self.announced:
                self.emit(name, CREATE)
            self.emit(name, WRITE)
            return
        if mask & (DELETED | MOVED_FROM):
            self.announced.discard(name)
        if mask & (CREATED | MOVED_TO) and name in self.announced:
            return
        for bit, kind in KINDS.items():
            if mask & bit:
                self.emit(name, kind)
        if self.recursive and mask & IS_DIRECTORY:
            try:
                self.handle_directory(name, mask, cookie)
            except OSError:  # no more watches to be had: what happens there cannot be told
                self.lose()

    def handle_directory(self, name: str, mask: int, cookie: int) -> None:
        if mask & MOVED_FROM:
            self.moved[cookie] = name
        elif mask & MOVED_TO and cookie in self.moved:
            old = self.moved.pop(cookie)
            for watch, path in self.paths.items():
                if path == old or path.startswith(f"{old}/"):
                    self.paths[watch] = name + path[len(old) :]
        elif mask & (CREATED | MOVED_TO):
            self.adopt(name, announce=True)

    def emit(self, name: str, kind: str) -> None:
        if self.lost or len(self.events) >= QUEUE_LIMIT:
            self.lose()
        elif not self.events or self.events[-1] != (name, kind):
            self.events.append((name, kind))
            self.news.set()

    def lose(self) -> None:
        self.lost = True
        self.news.set()


class Watchers:
    """The watches that are polled. When there are too many, the one not asked for the longest goes."""

    def __init__(self) -> None:
        self.kept: dict[str, Watch] = {}

    def keep(self, watch: Watch) -> str:
        if len(self.kept) >= WATCHER_LIMIT:
            self.remove(next(iter(self.kept)))
        name = os.urandom(8).hex()
        self.kept[name] = watch
        return name

    def find(self, name: Any) -> Watch:
        watch = self.kept.pop(name, None) if isinstance(name, str) else None
        if watch is None:
            raise RpcError("not_found", f"There is no watcher {name!r}; only the {WATCHER_LIMIT} last used are kept")
        self.kept[name] = watch
        return watch

    def remove(self, name: Any) -> None:
        self.find(name).close()
        del self.kept[name]

    def close(self) -> None:
        for name in list(self.kept):
            self.remove(name)
