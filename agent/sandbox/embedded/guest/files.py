"""GET and POST /files: whole files over plain HTTP, streamed both ways in memory that does not grow with the file.

Downloads are never compressed, also when a client would take gzip; a range of bytes can be asked for. Uploads come as a
multipart form or as raw bytes, gzip or not, and replace their target only when complete. Files are read and written on
the event loop: a page cache answers faster than a thread does.
"""

import asyncio
import errno
import os
import re
import stat
import sys
import zlib
from collections.abc import AsyncIterator
from functools import partial
from io import FileIO
from typing import Any
from urllib.parse import quote

from .entries import local, shown
from .multipart import Form
from .state import Guest
from .upload import Upload
from .wire import HttpError, Reply, Request, Router

CHUNK = 256 * 1024
DISCARD_LIMIT = 1024 * 1024 * 1024
STATUS = {
    errno.ENOENT: 404,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EROFS: 403,
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
    errno.EFBIG: 507,
    errno.EIO: 500,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
}


def routes(router: Router, guest: Guest) -> None:
    router.add("GET", "/files", partial(download, guest))
    router.add("POST", "/files", partial(upload, guest))


async def download(guest: Guest, request: Request) -> Reply:
    guest.check_user(request)
    path = wanted(request)
    try:
        file = open_regular(local(guest, path))
    except (OSError, ValueError) as error:
        raise refusal(error, path) from None
    size = os.fstat(file.fileno()).st_size
    headers = {
        "content-type": "application/octet-stream",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(os.path.basename(path), errors='replace')}",
        "x-content-type-options": "nosniff",
        "accept-ranges": "bytes",
    }
    if not size:  # empty, or a file of /proc whose size nobody knows before it is read
        return Reply(200, headers, content(file, sys.maxsize))
    start, stop = asked_range(request.headers.get("range", ""), size)
    headers["content-length"] = str(stop - start)
    if stop - start == size:
        return Reply(200, headers, content(file, size))
    file.seek(start)
    headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    return Reply(206, headers, content(file, stop - start))


def open_regular(path: str) -> FileIO:
    """Open for reading; never waits for a pipe's other end, and takes nothing but regular files."""
    file = FileIO(path, opener=lambda name, _: os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "Not a regular file")


async def content(file: FileIO, size: int) -> AsyncIterator[bytes]:
    """`size` bytes from where the file stands. If it was cut short meanwhile, h11 breaks the connection."""
    with file:
        while size and (piece := file.read(min(CHUNK, size))):
            yield piece
            size -= len(piece)


def asked_range(header: str, size: int) -> tuple[int, int]:
    """The one range of bytes a client asks for; the whole file for anything else, as HTTP allows."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if not found or not (found[1] or found[2]):
        return 0, size
    if not found[1]:
        return max(0, size - int(found[2])), size
    start, stop = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    if start >= stop:
        raise HttpError(416, f"The range {header} lies outside the file's {size} bytes")
    return start, stop


async def upload(guest: Guest, request: Request) -> Reply:
    body = request.body()
    try:
        guest.check_user(request)
        return Reply.json(await receive(guest, request, body))
    except HttpError:
        # Closing a socket with unread data resets it, and the client would never see the answer.
        await discard(body)
        raise


async def receive(guest: Guest, request: Request, body: AsyncIterator[bytes]) -> list[dict[str, Any]]:
    chunks = decoded(request.headers.get("content-encoding", ""), body)
    content_type = request.headers.get("content-type", "")
    media = content_type.partition(";")[0].strip().lower()
    metadata = {
        name.removeprefix("x-metadata-"): value
        for name, value in request.headers.items()
        if name.startswith("x-metadata-")
    }
    if media == "application/octet-stream":
        return [await store(guest, wanted(request), metadata, chunks)]
    if media != "multipart/form-data":
        raise HttpError(415, "Send multipart/form-data or application/octet-stream")
    form, written = Form(content_type, chunks), {}
    async for part in form.parts():
        if part.name != "file":
            continue
        path = request.query.get("path") or part.filename
        if not path:
            raise HttpError(400, "A file of the form has neither a name nor the query's 'path'")
        if path in written:
            raise HttpError(400, f"The form holds '{shown(path)}' twice; the first one was written")
        written[path] = await store(guest, path, metadata, form.content())
    if not written:
        raise HttpError(400, "The form holds no field named 'file'")
    return list(written.values())


async def store(guest: Guest, path: str, metadata: dict[str, str], chunks: AsyncIterator[bytes]) -> dict[str, Any]:
    try:
        target = local(guest, path)
        with Upload(target) as file:
            async for chunk in chunks:
                file.write(chunk)
            metadata = file.describe(metadata)
            file.commit()
    except ConnectionError:
        raise
    except (OSError, ValueError) as error:
        raise refusal(error, path) from None
    info: dict[str, Any] = {"name": shown(os.path.basename(target)), "type": "file", "path": shown(target)}
    return info | ({"metadata": metadata} if metadata else {})


def decoded(encoding: str, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return gunzip(body)
    raise HttpError(415, f"The content encoding '{encoding}' is not spoken here; send gzip or none")


async def gunzip(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """One or several gzip members, in bounded pieces: a bomb meets the disk's limit and never fills the memory."""
    inflate = zlib.decompressobj(wbits=31)
    try:
        async for chunk in chunks:
            while chunk:
                if inflate.eof:
                    inflate = zlib.decompressobj(wbits=31)
                yield inflate.decompress(chunk, CHUNK)
                chunk = inflate.unconsumed_tail or inflate.unused_data
                await asyncio.sleep(0)
        while not inflate.eof and (piece := inflate.decompress(b"", CHUNK)):
            yield piece
    except zlib.error as error:
        raise HttpError(400, f"The body is not valid gzip: {error}") from None
    if not inflate.eof:
        raise HttpError(400, "The gzip body ends too early")


async def discard(body: AsyncIterator[bytes]) -> None:
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > DISCARD_LIMIT:
            return


def wanted(request: Request) -> str:
    path = request.query.get("path")
    if not path:
        raise HttpError(400, "The query names no 'path'")
    return path


def refusal(error: OSError | ValueError, path: str) -> HttpError:
    if isinstance(error, OSError):
        return HttpError(STATUS.get(error.errno or 0, 400), f"{error.strerror}: '{shown(path)}'")
    return HttpError(400, f"'{path!r}' is no path: {error}")
