"""One Gradio app behind a Space: its endpoints, one call, and the files that go in and come out.

A Space is a stranger's program: it is spoken to at its own host alone, its answers name no other place to fetch from,
and only files below `here().folder` are given to it. A call that is given up may go on for a while on the Space's side.
"""

import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from tools.context import ToolError, here
from tools.hubs.client import SECONDS, endpoint, scrubbed

if TYPE_CHECKING:
    from gradio_client import Client  # type: ignore[import-untyped]

MOST_FILE_BYTES = 500_000_000
MOST_FILES = 50
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FILE_TYPES = ("filepath", "dict(path:", "FileData", "list[filepath]")
API_PREFIX = re.compile(r"(/?[A-Za-z0-9_-]+)*/?")


def checked_host(url: str) -> str:
    """Only https hosts with a name; plain http only where Hub and app are both on this machine."""
    parts = urlsplit(url)
    name = parts.hostname or ""
    local = name in LOOPBACK and urlsplit(endpoint()).hostname in LOOPBACK
    named = parts.scheme == "https" and "." in name and not re.fullmatch(r"[\d.]+|.*:.*", name)
    if parts.username or not (local or named):
        raise ToolError(f"{url!r} is no address of a Space. Use its id, owner/name.")
    return f"{parts.scheme}://{parts.netloc}/"


@contextmanager
def app(url: str, token: str | None) -> Iterator["Client"]:
    """A connection to the app; `token` is for a private Space of the user's own."""
    import httpx
    from gradio_client import Client

    class App(Client):
        def _telemetry_thread(self) -> None:
            """Nobody is told who calls what."""

        def _get_config(self) -> dict:
            config = super()._get_config()
            if not API_PREFIX.fullmatch(config.get("api_prefix") or ""):
                raise ToolError(f"{url} wants to be called somewhere else; it is not called.")
            return config

    here().check()
    try:
        client = App(
            url,
            token=token or False,  # None would look for a token on this machine
            verbose=False,
            download_files=False,
            httpx_kwargs={"timeout": httpx.Timeout(3 * SECONDS, connect=SECONDS)},
            analytics_enabled=False,
        )
    except (httpx.HTTPError, ValueError, KeyError) as error:
        reason = scrubbed(str(error))[:200]
        raise ToolError(f"{url} does not answer as a Gradio app ({reason}). It may be starting: try again.") from None
    try:
        yield client
    finally:
        client._kill_heartbeat.set()  # close() would wait for the next heartbeat


def endpoints(client: "Client") -> dict[str, dict[str, Any]]:
    return client.view_api(print_info=False, return_format="dict")["named_endpoints"]


def parameters(described: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": one["parameter_name"],
            "type": one["python_type"]["type"],
            "about": one["python_type"].get("description") or "",
            "label": one.get("label") or "",
            "component": one["component"],
            "required": not one["parameter_has_default"],
            "default": one.get("parameter_default"),
            "is_file": one["python_type"]["type"].startswith(FILE_TYPES),
        }
        for one in described["parameters"]
    ]


def arguments_in(given: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the app takes them, with files checked and marked for upload."""
    known = {one["name"]: one for one in parameters(described)}
    needed = [name for name, one in known.items() if one["required"]]
    unknown, lacking = [name for name in given if name not in known], [name for name in needed if name not in given]
    if unknown or lacking:
        wrong = f"Unknown: {', '.join(unknown)}. " if unknown else f"Missing: {', '.join(lacking)}. "
        takes = ", ".join(
            f"{name}: {one['type']}" + ("" if one["required"] else " (optional)") for name, one in known.items()
        )
        raise ToolError(f"{wrong}The endpoint takes {takes or 'no arguments'}.")
    return {name: _marked(value, known[name]["is_file"]) for name, value in given.items()}


def call(client: "Client", endpoint_name: str, arguments: dict[str, Any], timeout: float) -> Any:
    """Waits for the result in short steps, so that a cancel or the limit ends it."""
    from concurrent.futures import TimeoutError as NotYet

    job = client.submit(api_name=endpoint_name, **arguments)
    end = time.monotonic() + timeout
    while True:
        try:
            return job.result(timeout=0.1)
        except NotYet:
            if not job.done() and time.monotonic() < end and not here().cancel.is_set():
                here().progress(None, f"waiting for the Space ({job.status().code.name.lower()})")
                continue
            threading.Thread(target=job.cancel, daemon=True).start()  # tells the Space, which may be slow to listen
            here().check()
            raise ToolError(f"No result within {timeout:g} s. Try again with a longer timeout.") from None
        except Exception as error:  # whatever the Space's own code raised comes through here
            raise ToolError(f"The Space failed: {scrubbed(str(error))[:500]}") from None


def fetched(client: "Client", value: Any, folder: Path) -> tuple[Any, list[Path]]:
    """The result with every file brought here and replaced by its path."""
    paths: list[Path] = []

    def walk(one: Any) -> Any:
        if isinstance(one, dict):
            if one.get("__type__") == "update":
                return walk(one.get("value"))
            if (one.get("meta") or {}).get("_type") == "gradio.FileData" and one.get("path"):
                if len(paths) == MOST_FILES:
                    return None
                paths.append(_download(client, str(one["path"]), one.get("orig_name"), folder))
                return str(paths[-1])
            return {key: walk(item) for key, item in one.items()}
        if isinstance(one, list | tuple):
            return [walk(item) for item in one]
        return scrubbed(one) if isinstance(one, str) else one

    return walk(value), paths


def plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _marked(value: Any, is_file: bool) -> Any:
    from gradio_client import handle_file

    if isinstance(value, dict):
        if (value.get("meta") or {}).get("_type") == "gradio.FileData":
            return _marked(str(value.get("path")), True)
        if is_file and isinstance(value.get("path"), str):
            return _marked(value["path"], True)
        return {key: _marked(item, False) for key, item in value.items()}
    if isinstance(value, list):
        return [_marked(item, is_file) for item in value]
    if not is_file or not isinstance(value, str):
        return value
    if value.startswith("https://"):
        return handle_file(value)  # fetched by the Space, not from here
    folder = here().folder.resolve()
    path = (folder / value).resolve()
    if not path.is_relative_to(folder):
        raise ToolError(f"{value!r} lies outside the working folder. Copy it in first.")
    if not path.is_file():
        raise ToolError(f"There is no file {value!r} in the working folder.")
    return handle_file(str(path))


def _download(client: "Client", remote: str, name: str | None, folder: Path) -> Path:
    """From the app's own host by path; an address in the answer is not followed."""
    import httpx

    name = re.sub(r"[^\w.-]+", "_", Path(name or remote).name).lstrip(".") or "file"
    folder.mkdir(parents=True, exist_ok=True)
    target = _free(folder / name)
    url = f"{client.src_prefixed}file={quote(remote)}"
    headers, size = dict(client.headers), 0
    try:
        with httpx.stream("GET", url, headers=headers, cookies=client.cookies, timeout=3 * SECONDS) as response:
            response.raise_for_status()
            with target.open("wb") as file:
                for chunk in response.iter_bytes():
                    here().check()
                    size += len(chunk)
                    if size > MOST_FILE_BYTES:
                        raise ToolError(f"{name} is larger than {MOST_FILE_BYTES:,} bytes; it was not kept.")
                    file.write(chunk)
    except httpx.HTTPError as error:
        target.unlink(missing_ok=True)
        raise ToolError(f"The Space's file {name} could not be fetched ({type(error).__name__}). Call again.") from None
    except ToolError:
        target.unlink(missing_ok=True)
        raise
    return target


def _free(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], names) if not name.exists())
