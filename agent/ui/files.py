"""Files of a session: what a person drops in, and what the session made, to look at and to take along.

Uploads land in `uploads/` of the folder where the session stands, so that their path means the same to the sandbox and
to tools on the host. What was made leaves only from here: the owner alone gets it, as an attachment that no browser
runs, and only from below the person's own folder, whatever link a script may have left there.
"""

import hashlib
import os
import re
import shutil
import tempfile
import unicodedata
import zipfile
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from agent.store import Session as Known
from agent.ui.asking import Ask, Refusal, owned, route, told
from agent.ui.people import Person, folder_of

if TYPE_CHECKING:
    from agent.ui.server import Server

MB = 1024 * 1024
SPARE = 512 * MB  # of the disk, that no upload may take
# fmt: off
TAKEN = (
    "csv", "tsv", "json", "jsonl", "ndjson", "parquet", "arrow", "feather", "txt", "md", "pdf", "zip", "gz", "bz2",
    "xz", "zst", "tar", "tgz", "png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "wav", "mp3", "flac", "ogg",
    "npy", "npz", "safetensors", "py", "ipynb", "yaml", "yml", "toml", "xml",
)
# fmt: on
PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
SAFE = {"content-security-policy": "sandbox; default-src 'none'", "cache-control": "private, no-store"}
PIECE = 256 * 1024


def routes(server: "Server") -> list[BaseRoute]:
    one = "/x/sessions/{id}"

    async def take(request: Request) -> Response:
        return await upload(server, request)

    return [
        Route(f"{one}/files", take, methods=["POST"]),
        route(server, f"{one}/artifacts", get=listed),
        route(server, f"{one}/artifacts.zip", get=bundle),
        route(server, f"{one}/artifacts/{{seq:int}}", get=artifact),
    ]


# -- in --------------------------------------------------------------------------------------------------------------


async def upload(server: "Server", request: Request) -> Response:
    try:
        person = server.door.who(request)
        if person is None:
            raise Refusal(401, "You are not signed in. Sign in and try again.")
        known = await run_in_threadpool(owned, server, person, request.path_params["id"])
        most = server.settings.upload_mb * MB
        if (
            request.headers.get("content-length", "").isdigit()
            and int(request.headers["content-length"]) > most + PIECE
        ):
            raise Refusal(
                413, f"The file is larger than {server.settings.upload_mb} MB. Put it on the Hub, or split it."
            )
        form = await MultiPartParser(request.headers, counted(request, most + PIECE), max_files=1, max_fields=4).parse()
        try:
            given = form.get("file")
            if not isinstance(given, UploadFile):
                raise Refusal(422, "No file came in the field 'file'. Send one as multipart/form-data.")
            return JSONResponse(await run_in_threadpool(keep, given, known, most))
        finally:
            await form.close()
    except ClientDisconnect:
        return Response(status_code=400)
    except (MultiPartException, KeyError):
        return told(server, Refusal(422, "The upload cannot be read. Send one file as multipart/form-data."))
    except OSError as error:
        return told(
            server, Refusal(507, f"The file cannot be kept: {error.strerror}. Free some space, or check rights.")
        )
    except Exception as error:
        return told(server, error)


async def counted(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise Refusal(413, f"The file is larger than {most // MB} MB. Put it on the Hub, or split it.")
        yield chunk


def keep(given: UploadFile, known: Known, most: int) -> dict[str, Any]:
    name, size = safe_name(given.filename or ""), given.size or 0
    if size > most:
        raise Refusal(413, f"The file is larger than {most // MB} MB. Put it on the Hub, or split it.")
    suffix = name.rpartition(".")[2].lower()
    if suffix not in TAKEN:
        raise Refusal(415, f"Files of this kind are not taken ({name}). Taken are: {', '.join(TAKEN)}.")
    folder = uploads(known)
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < size + SPARE:
        raise Refusal(507, "The disk is nearly full. Remove something and try again.")
    path = place(folder, name, digest(given.file))
    if not path.exists():
        half = folder / f".{os.urandom(8).hex()}.half"
        try:
            with half.open("xb") as file:
                shutil.copyfileobj(given.file, file, PIECE)
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)
    return {"name": path.name, "size": size}


def uploads(known: Known) -> Path:
    return Path(known.cwd) / "uploads"


def place(folder: Path, name: str, sum: str) -> Path:
    """A free name, or the one under which these very bytes lie already. A link that lies there is no such name."""
    stem, dot, suffix = name.rpartition(".")
    for number in range(1, 10_000):
        path = folder / (name if number == 1 else f"{stem}-{number}{dot}{suffix}")
        if not path.exists() and not path.is_symlink():
            return path
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if digest(file) == sum:
                    return path
    raise Refusal(409, f"There are too many files called {name}. Give it another name.")


def digest(file: Any) -> str:
    file.seek(0)
    found = hashlib.sha256()
    while block := file.read(MB):
        found.update(block)
    file.seek(0)
    return found.hexdigest()


def safe_name(told: str) -> str:
    """The last part of what a browser says the file is called, without what a path, a shell or a page could trip on."""
    last = unicodedata.normalize("NFC", told).replace("\\", "/").rpartition("/")[2]
    plain = re.sub(r"[^\w .()+-]", "_", last).strip(" .")
    stem, dot, suffix = plain.rpartition(".")
    if not plain or not dot or not stem:
        raise Refusal(422, "The file has no usable name. Call it something like data.csv.")
    return f"{stem[:100].strip()}.{suffix[:10]}"


def given(known: Known, names: Any) -> list[Path]:
    """The uploaded files that a task names."""
    if not isinstance(names, list) or len(names) > 50:
        raise Refusal(422, "'files' is no list of names. Send the names that the uploads answered with.")
    paths = []
    for name in names:
        if not isinstance(name, str) or name != Path(name).name or name.startswith("."):
            raise Refusal(422, "'files' holds what is no name. Send the names that the uploads answered with.")
        path = uploads(known) / name
        if path.is_symlink() or not path.is_file():
            raise Refusal(422, f"There is no uploaded file {name}. Upload it again.")
        paths.append(path)
    return paths


# -- out -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    seq: int
    path: Path
    title: str
    kind: str
    step: int | None


def made(server: "Server", person: Person, known: Known) -> Iterator[Made]:
    """What the session's events say was made, as far as it is there and lies where it may."""
    home = folder_of(server.settings, person).resolve()
    rooms = (home / "artifacts", home / "runs", Path(known.cwd).resolve() / "training_reports")
    for event in server.store.all(known.id):
        if event.type != "artifact":
            continue
        path = Path(event.data["path"]).resolve()
        if any(path.is_relative_to(room) for room in rooms) and path.is_file():
            data = event.data
            yield Made(event.seq, path, data.get("title") or path.name, data["kind"], data.get("step"))


def listed(ask: Ask) -> list[dict[str, Any]]:
    found = made(ask.server, ask.person, ask.session())
    return [
        {
            "seq": one.seq,
            "title": one.title,
            "kind": one.kind,
            "size": one.path.stat().st_size,
            "name": one.path.name,
            "step": one.step,
        }
        for one in found
    ]


def artifact(ask: Ask) -> Response:
    seq = int(ask.path["seq"])
    for one in made(ask.server, ask.person, ask.session()):
        if one.seq == seq:
            return picture(one.path) if ask.query.get("view") == "1" else attached(one.path, one.path.name)
    raise Refusal(404, "There is no such file. It may have been removed.")


def picture(path: Path) -> Response:
    """Shown in the page: only what is a picture by its own first bytes."""
    with path.open("rb") as file:
        head = file.read(16)
    kind = next((kind for mark, kind in PICTURES.items() if head.startswith(mark)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise Refusal(415, "This is no picture. Download it instead.")
    return FileResponse(path, media_type=kind, headers=SAFE)


def attached(path: Path, name: str) -> Response:
    return FileResponse(path, media_type="application/octet-stream", headers=SAFE | disposition(name))


def attachment(data: bytes, name: str, kind: str) -> Response:
    return Response(data, media_type=kind, headers=SAFE | disposition(name))


def disposition(name: str) -> dict[str, str]:
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
    return {"content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"}


def bundle(ask: Ask) -> Response:
    known = ask.session()
    packed = tempfile.SpooledTemporaryFile(16 * MB)  # noqa: SIM115 (closed when it is sent)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        seen: set[Path] = set()
        for one in made(ask.server, ask.person, known):
            if one.path not in seen:
                seen.add(one.path)
                taken = one.path.name in archive.namelist()
                archive.write(one.path, f"{one.seq}-{one.path.name}" if taken else one.path.name)
    packed.seek(0)

    def pieces() -> Iterator[bytes]:
        with packed:
            while block := packed.read(PIECE):
                yield block

    headers = SAFE | disposition(f"{known.id}.zip")
    return StreamingResponse(pieces(), media_type="application/zip", headers=headers)
