"""The page's own scripts, styles and icons, from agent/ui/static/ and nowhere else; open to all, cached by tag."""

import hashlib
import mimetypes
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

STATIC = Path(__file__).parent / "static"
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}


def routes() -> list[BaseRoute]:
    return [Route("/x/static/{name:path}", static)]


def static(request: Request) -> Response:
    name = request.path_params["name"]
    path = STATIC / name
    if name not in {one.relative_to(STATIC).as_posix() for one in STATIC.rglob("*") if one.is_file()}:
        return PlainTextResponse("Not found.", 404)
    data = path.read_bytes()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    kind = KINDS.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(data, media_type=kind, headers=headers)
