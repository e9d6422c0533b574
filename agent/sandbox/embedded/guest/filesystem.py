"""The filesystem.Filesystem service of envd: look, list, make, move, remove and watch.

What the SDK cannot express stays as Linux has it: owners, links and permissions are those of the sandbox's user. A move
between filesystems (home and /tmp are two) copies first and is then no longer one atomic step.
"""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from .connect import RpcError, add_server_stream, add_unary, timeout_of
from .entries import entry, local, shown
from .state import Guest
from .watch import Watch, Watchers
from .wire import HttpError, Request, Router

LISTING_LIMIT = 50_000
KEEPALIVE = 50
CODES = {
    errno.ENOENT: "not_found",
    errno.EEXIST: "already_exists",
    errno.ENOTEMPTY: "already_exists",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.EROFS: "permission_denied",
    errno.ENOSPC: "failed_precondition",
    errno.EDQUOT: "failed_precondition",
    errno.EMFILE: "resource_exhausted",
    errno.ENFILE: "resource_exhausted",
    errno.EIO: "internal",
}
Message = dict[str, Any]


def routes(router: Router, guest: Guest) -> Watchers:
    """Register the service; the watchers that come back are to be closed with the guest."""
    service = Filesystem(guest)
    unary = {
        "Stat": service.stat,
        "ListDir": service.list_dir,
        "MakeDir": service.make_dir,
        "Move": service.move,
        "Remove": service.remove,
        "CreateWatcher": service.create_watcher,
        "GetWatcherEvents": service.get_watcher_events,
        "RemoveWatcher": service.remove_watcher,
    }
    for name, method in unary.items():
        add_unary(router, f"/filesystem.Filesystem/{name}", guarded(guest, method))
    add_server_stream(router, "/filesystem.Filesystem/WatchDir", service.watch_dir)
    return service.watchers


def guarded(guest: Guest, method: Callable[[Message], Awaitable[Message]]) -> Callable[..., Awaitable[Message]]:
    async def call(message: Message, request: Request) -> Message:
        check_user(guest, request)
        try:
            return await method(message)
        except (OSError, ValueError) as error:
            raise refusal(error) from None

    return call


def check_user(guest: Guest, request: Request) -> None:
    try:
        guest.check_user(request)
    except HttpError as error:
        raise RpcError("unauthenticated", error.message) from None


def refusal(error: OSError | ValueError) -> RpcError:
    if not isinstance(error, OSError):
        return RpcError("invalid_argument", str(error))
    names = " → ".join(f"'{shown(name)}'" for name in (error.filename, error.filename2) if isinstance(name, str))
    return RpcError(CODES.get(error.errno or 0, "invalid_argument"), f"{error.strerror}: {names}")


class Filesystem:
    def __init__(self, guest: Guest):
        self.guest = guest
        self.watchers = Watchers()

    def path(self, message: Message, field: str = "path") -> str:
        value = message.get(field, "")
        if not isinstance(value, str):
            raise RpcError("invalid_argument", f"'{field}' is not a string")
        return local(self.guest, value)

    def described(self, path: str) -> Message:
        return {"entry": entry(path, self.guest.user)}

    async def stat(self, message: Message) -> Message:
        try:
            return self.described(self.path(message))
        except NotADirectoryError as error:  # below a file there is nothing
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), error.filename) from None

    async def list_dir(self, message: Message) -> Message:
        depth = message.get("depth") or 1
        if not isinstance(depth, int):
            raise RpcError("invalid_argument", "'depth' is not a number")
        return {"entries": await asyncio.to_thread(listing, self.path(message), depth, self.guest.user)}

    async def make_dir(self, message: Message) -> Message:
        path = self.path(message)
        try:
            os.makedirs(path)
        except FileExistsError:
            if os.path.isdir(path):
                raise
            raise RpcError("invalid_argument", f"'{shown(path)}' or a part of it is a file") from None
        return self.described(path)

    async def move(self, message: Message) -> Message:
        source, destination = self.path(message, "source"), self.path(message, "destination")
        os.lstat(source)
        os.makedirs(os.path.dirname(destination), exist_ok=True)
        try:
            os.rename(source, destination)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            await asyncio.to_thread(move_across, source, destination)
        return self.described(destination)

    async def remove(self, message: Message) -> Message:
        path = self.path(message)
        home = os.path.normpath(self.guest.home)
        if os.path.commonpath([path, home]) == path:
            raise RpcError("invalid_argument", f"'{shown(path)}' holds the sandbox's home; remove what is in it")
        await asyncio.to_thread(remove, path)
        return {}

    async def open_watch(self, message: Message) -> Watch:
        recursive, with_entries = message.get("recursive") is True, message.get("includeEntry") is True
        path, user = self.path(message), self.guest.user if with_entries else None
        try:
            watch = await asyncio.to_thread(Watch, path, recursive, user)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            text = "The kernel has no more watches to give; stop some or watch fewer directories"
            raise RpcError("resource_exhausted", text) from None
        watch.start()
        return watch

    async def create_watcher(self, message: Message) -> Message:
        return {"watcherId": self.watchers.keep(await self.open_watch(message))}

    async def get_watcher_events(self, message: Message) -> Message:
        return {"events": self.watchers.find(message.get("watcherId")).take()}

    async def remove_watcher(self, message: Message) -> Message:
        self.watchers.remove(message.get("watcherId"))
        return {}

    async def watch_dir(self, message: Message, request: Request) -> AsyncIterator[Message]:
        check_user(self.guest, request)
        asked = request.headers.get("keepalive-ping-interval", "")
        pause = max(1, int(asked)) if asked.isdigit() else KEEPALIVE
        limit, now = timeout_of(request), asyncio.get_running_loop().time
        deadline = now() + limit if limit else float("inf")
        try:
            watch = await self.open_watch(message)
        except (OSError, ValueError) as error:
            raise refusal(error) from None
        try:
            yield {"start": {}}
            while not watch.over:
                news = await watch.wait(min(pause, deadline - now()))
                if now() >= deadline:
                    raise RpcError("deadline_exceeded", f"The directory was watched for {limit} s")
                if not news:
                    yield {"keepalive": {}}
                for event in watch.take():
                    yield {"filesystem": event}
        finally:
            watch.close()


def listing(top: str, depth: int, user: str) -> list[Message]:
    """All entries down to `depth`, each directory before what is in it, by name. Links are shown, never followed."""
    entries: list[Message] = []
    pending = [(path, 1) for path in children(top)]
    while pending:
        path, level = pending.pop()
        try:
            info = entry(path, user)
            if level < depth and info["type"] == "FILE_TYPE_DIRECTORY" and "isSymlink" not in info:
                pending += [(child, level + 1) for child in children(path)]
        except FileNotFoundError:  # gone since its directory was read
            continue
        except PermissionError:
            pass
        entries.append(info)
        if len(entries) > LISTING_LIMIT:
            raise RpcError("invalid_argument", f"Over {LISTING_LIMIT} entries. List deeper directories one by one.")
    return entries


def children(folder: str) -> list[str]:
    """Last name first, as a stack wants them."""
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder), reverse=True)]


def remove(path: str) -> None:
    """Remove a file, a link itself or a whole directory; what is not there is removed already."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(mode):
        os.unlink(path)
        return
    import shutil  # costs the idle guest a megabyte

    def fail(_: object, name: str, caught: tuple[type, BaseException, object]) -> None:
        if not isinstance(caught[1], FileNotFoundError):
            raise caught[1]

    try:
        shutil.rmtree(path, onerror=fail)
    except RecursionError:
        raise RpcError("invalid_argument", f"'{shown(path)}' is nested too deeply; use rm -rf in the sandbox") from None


def move_across(source: str, destination: str) -> None:
    """A move to another filesystem: a whole copy under a temporary name, renamed, and only then the source goes."""
    import shutil

    temporary = os.path.join(os.path.dirname(destination), f".move-{os.urandom(8).hex()}")
    try:
        if stat.S_ISDIR(os.lstat(source).st_mode):
            shutil.copytree(source, temporary, symlinks=True)
        else:
            shutil.copy2(source, temporary, follow_symlinks=False)
        os.rename(temporary, destination)
    except shutil.Error as error:
        raise OSError(errno.EINVAL, f"Not everything could be copied ({error.args[0][0][2]})", source) from None
    finally:
        remove(temporary)
    remove(source)
