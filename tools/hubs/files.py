"""Listing and reading the files of a repository, on the Hub or in the local cache.

Reads a range and nothing more, so a file of any size can be looked at; nothing is written to the cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from tools.context import ToolError, here
from tools.hubs.cache import cached_file, cached_files, cached_snapshot
from tools.hubs.client import Missing, NoEntry, ask, opened, reach, refused
from tools.hubs.place import KINDS, Place

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
MOST_ENTRIES = 20_000  # looked at in one listing
FORMATS = [
    (b"GGUF", "a GGUF model file"),
    (b"PAR1", "a Parquet file; look into it with inspect_dataset"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"PK\x03\x04", "a zip archive (or a PyTorch file)"),
    (b"ARROW1", "an Arrow file"),
    (b"RIFF", "audio or video"),
]


@dataclass(frozen=True)
class Entry:
    path: str
    size: int | None  # None: a folder


@dataclass(frozen=True)
class Piece:
    content: bytes
    start: int
    size: int  # of the whole file


def find(
    place: Place, online: Callable[[Place], Callable[["HfApi"], T]], cached: Callable[[Place], T]
) -> tuple[Place, T, str]:
    """Ask about the place; a bare id is looked for among models, then datasets, then Spaces."""
    kinds = [place.kind] if place.kind_told else list(KINDS)
    for kind in kinds:
        there = Place(kind, place.repo_id, place.revision, place.path, place.kind_told)
        try:
            value, note = reach(online(there), lambda there=there: cached(there))  # type: ignore[misc]
            return there, value, note
        except Missing as missing:
            problem = missing
    try:
        near = nearest(place.repo_id)
    except ToolError:  # the search is a favour; the answer is that nothing was found
        near = []
    raise Missing(f"{problem} Did you mean: {', '.join(near)}?" if near else f"{problem} Look for it with search_hub.")


def nearest(repo_id: str) -> list[str]:
    """Names on the Hub most like this one; shorter beginnings are tried when the whole name finds nothing."""
    name = repo_id.split("/")[-1]
    for text in (name, name.rsplit("-", 1)[0], name.split("-")[0].split("_")[0]):

        def question(api: "HfApi", text: str = text) -> list[str]:
            models = [one.id for one in api.list_models(search=text, sort="downloads", limit=8)]
            sets = [f"datasets/{one.id}" for one in api.list_datasets(search=text, sort="downloads", limit=8)]
            return models + sets + [f"spaces/{one.id}" for one in api.list_spaces(search=text, limit=4)]

        found, _ = ask(question)
        if found:
            return get_close_matches(repo_id, found, n=5, cutoff=0.3) or found[:5]
    return []


def entries(place: Place, recursive: bool) -> tuple[Place, list[Entry], str]:
    def online(there: Place) -> Callable[["HfApi"], list[Entry]]:
        def question(api: "HfApi") -> list[Entry]:
            found: list[Entry] = []
            tree = api.list_repo_tree(
                there.repo_id,
                there.path or None,
                recursive=recursive,
                revision=there.revision,
                repo_type=there.kind,
            )
            for one in tree:
                found.append(Entry(one.path, getattr(one, "size", None)))
                if len(found) == MOST_ENTRIES:
                    break
            return found

        return question

    def cached(there: Place) -> list[Entry]:
        below = f"{there.path}/" if there.path else ""
        found: dict[str, Entry] = {}
        for path, size in cached_files(there):
            if not path.startswith(below):
                continue
            first, *rest = path[len(below) :].split("/")
            entry = Entry(path, size) if recursive or not rest else Entry(below + first, None)
            found[entry.path] = entry
        return list(found.values())

    try:
        return find(place, online, cached)
    except NoEntry as problem:
        raise NoEntry(f"{problem} See what is there with list_files({place.at('')!r}).") from None


def piece(place: Place, start: int, length: int) -> tuple[Place, Piece, str]:
    """Bytes from `start`, a few more than `length` so that a character at the end is whole."""

    def online(there: Place) -> Callable[["HfApi"], Piece]:
        def question(api: "HfApi") -> Piece:
            revision = quote(there.revision or "main", safe="")
            url = f"{there.page}/resolve/{revision}/{quote(there.path)}"
            span = {"range": f"bytes={start}-{start + length + 3}"}
            with opened(url, token=api.token, headers=span) as response:
                size = response.headers.get("content-range", "").rpartition("/")[2]
                if response.status_code == 416:
                    return Piece(b"", start, int(size) if size.isdigit() else start)
                refused(response)
                skip = 0 if response.status_code == 206 else start  # a server may ignore the range
                content = b""
                for chunk in response.iter_bytes():
                    here().check()
                    content += chunk
                    if len(content) >= skip + length + 4:
                        break
                whole = (
                    int(size) if size.isdigit() else int(response.headers.get("content-length", skip + len(content)))
                )
                return Piece(content[skip : skip + length + 4], start, whole)

        return question

    def cached(there: Place) -> Piece:
        path = cached_file(there)
        with path.open("rb") as file:
            file.seek(start)
            return Piece(file.read(length + 4), start, path.stat().st_size)

    try:
        return find(place, online, cached)
    except NoEntry as problem:
        raise NoEntry(f"{problem} {_similar(place)}") from None


def text_of(found: Piece, length: int, name: str) -> tuple[str, int]:
    """The piece as text, and where the next one starts. Refuses what is no text, with a word on what it is."""
    content = found.content
    what = kind_of(content, name) if found.start == 0 else None
    if what is None and b"\0" in content:
        what = "binary data"
    if what:
        raise ToolError(f"{name} is {what} ({found.size:,} bytes), not text.")
    begin = 0
    while found.start and begin < min(3, len(content)) and content[begin] & 0xC0 == 0x80:
        begin += 1  # the rest of a character that belongs to the piece before
    end = min(length, len(content))
    while end < len(content) and content[end] & 0xC0 == 0x80:
        end += 1
    try:
        return content[begin:end].decode(), found.start + end
    except UnicodeDecodeError:
        return content[begin:end].decode("latin-1"), found.start + end


def kind_of(content: bytes, name: str) -> str | None:
    if name.endswith(".safetensors") and content[8:9] == b"{":
        return "a safetensors file; its number of parameters is in repo_details"
    return next((what for magic, what in FORMATS if content.startswith(magic)), None)


def cached_readme(place: Place) -> Path | None:
    folder, _ = cached_snapshot(place)
    path = folder / "README.md"
    return path if path.is_file() else None


def _similar(place: Place) -> str:
    try:
        _, all_of_them, _ = entries(
            Place(place.kind, place.repo_id, place.revision, "", place.kind_told), recursive=True
        )
    except ToolError:
        return "Check the revision."
    paths = [one.path for one in all_of_them]
    if any(path.startswith(f"{place.path}/") for path in paths):
        return f"{place.path} is a folder: see list_files({str(place)!r})."
    name = place.path.rsplit("/", 1)[-1]
    near = [path for path in paths if path.endswith(f"/{name}")] + get_close_matches(place.path, paths, n=5, cutoff=0.5)
    return f"Did you mean: {', '.join(dict.fromkeys(near))}?" if near else f"There: {', '.join(paths[:20])}."
