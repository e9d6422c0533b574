"""What the local Hugging Face cache holds: the answer when nothing else can be asked.

Reads only what huggingface_hub itself stored there; says nothing about what has changed on the Hub since.
"""

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.context import ToolError, here
from tools.hubs.place import Place

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo


def cached_repos(kind: str | None = None) -> list["CachedRepoInfo"]:
    """Most recently used first."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    return sorted((repo for repo in repos if kind in (None, repo.repo_type)), key=lambda repo: -repo.last_accessed)


def cached_snapshot(place: Place) -> tuple[Path, Place]:
    """The folder with the files of that revision, and the place with its kind as found."""
    kind = place.kind if place.kind_told else None
    repos = cached_repos(kind)
    for repo in repos:
        if repo.repo_id != place.repo_id:
            continue
        found = sorted(repo.revisions, key=lambda revision: -revision.last_modified)
        wanted = place.revision or "main"
        exact = [one for one in found if wanted in one.refs or one.commit_hash.startswith(wanted)]
        if exact or (found and place.revision is None):
            best = (exact or found)[0]
            return best.snapshot_path, Place(repo.repo_type, repo.repo_id, place.revision, place.path)
    there = ", ".join(f"{repo.repo_type} {repo.repo_id}" for repo in repos[:10]) or "nothing of that kind"
    at = f" at {place.revision}" if place.revision else ""
    raise ToolError(f"{place.repo_id}{at} is not in the local cache and the Hub is not asked. There: {there}.")


def cached_files(place: Place) -> list[tuple[str, int]]:
    """Path and size of every cached file of the place."""
    folder, _ = cached_snapshot(place)
    files = []
    for path in sorted(folder.rglob("*")):
        here().check()
        if path.is_file():
            files.append((path.relative_to(folder).as_posix(), path.stat().st_size))
    return files


def cached_file(place: Place) -> Path:
    folder, _ = cached_snapshot(place)
    if (path := folder / place.path).is_file():
        return path
    there = ", ".join(name for name, _ in cached_files(place)[:20]) or "no files"
    raise ToolError(
        f"{place.path} is not in the local cache and the Hub is not asked. Cached of {place.repo_id}: {there}."
    )


def safetensors_parameters(path: Path) -> dict[str, int]:
    """Parameters by data type, from the header alone; nothing if that is none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = json.loads(file.read(min(length, 100_000_000)))
    except (struct.error, ValueError):
        return {}
    counts: dict[str, int] = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        size = 1
        for dimension in tensor["shape"]:
            size *= dimension
        counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + size
    return counts
