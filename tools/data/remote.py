"""A dataset of the Hub as a local folder: downloaded into the Hub's own cache, or what the caches hold when offline.

Only data files and the card are fetched, never a loading script. Several subsets: the default one, or the one named
after the id ("owner/name/subset"); the others are told.
"""

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tools.context import ToolError, here
from tools.data import source
from tools.hubs.cache import cached_snapshot
from tools.hubs.client import SECONDS, ask, bounded, endpoint, offline
from tools.hubs.files import Entry, entries
from tools.hubs.place import Place, place_of

MOST_BYTES = 50 << 30


def fetch(path: str, split: str | None) -> tuple[Path, list[str] | None, list[str]]:
    """The folder to read, the names of the files in it that were asked for (None: all), and what there is to say."""
    place = place_of(path, "dataset") if not path.startswith("hf://") else place_of(path)
    if place.kind != "dataset":
        place = Place("dataset", place.repo_id, place.revision, place.path)
    if offline():
        folder, said = from_caches(place)
        return folder, None, [said]
    _, found, note = entries(Place("dataset", place.repo_id, place.revision), recursive=True)
    commit = revision(place)
    card = download(place, commit, "README.md") if any(one.path == "README.md" for one in found) else None
    patterns, notes = subset(card, place)
    data = wanted(found, patterns, place, split)
    size = sum(one.size or 0 for one in data)
    if size > min(MOST_BYTES, source.free_bytes(Path.home()) - (1 << 30)):
        raise ToolError(f"{place.repo_id} has {size / 1e9:,.0f} GB of data. Name a folder of it, or one split.")
    done, last = 0, None
    for one in data:
        here().check()
        here().progress(done / max(size, 1), f"downloading {one.path}")
        last = download(place, commit, one.path)
        done += one.size or 0
    assert last is not None
    root = last.parents[data[-1].path.count("/")]
    return root, [one.path for one in data], [*notes, note] if note else notes


def revision(place: Place) -> str:
    def question(api: Any) -> str:
        return api.dataset_info(place.repo_id, revision=place.revision).sha

    return ask(question)[0] or place.revision or "main"


def download(place: Place, commit: str, path: str) -> Path:
    from huggingface_hub import constants, hf_hub_download

    def question(api: Any) -> str:
        with bounded(SECONDS):
            return hf_hub_download(
                place.repo_id,
                path,
                repo_type="dataset",
                revision=commit,
                token=api.token,
                endpoint=endpoint(),
                cache_dir=constants.HF_HUB_CACHE,
            )

    return Path(ask(question)[0])


def subset(card: Path | None, place: Place) -> tuple[list[str], list[str]]:
    """Patterns of the data files of the chosen subset, from the card; nothing when it names none."""
    configs: list[Any] = []
    if card:
        import yaml  # type: ignore[import-untyped]

        text = card.read_text(errors="replace")
        if text.startswith("---") and "\n---" in text[3:]:
            try:
                configs = (yaml.safe_load(text[3 : text.index("\n---", 3)]) or {}).get("configs") or []
            except (yaml.YAMLError, AttributeError):
                pass
    named = {str(one.get("config_name")): one for one in configs if isinstance(one, dict)}
    if place.path in named:
        return patterns_of(named[place.path]), []
    if place.path or not named:
        return [], []
    name = next((name for name, one in named.items() if one.get("default") or name == "default"), next(iter(named)))
    others = [f"{place.repo_id}/{other}" for other in named if other != name]
    return patterns_of(named[name]), [f"Subset {name!r}; others: {', '.join(others[:10])}."] if others else []


def patterns_of(config: dict[str, Any]) -> list[str]:
    files = config.get("data_files") or []
    if isinstance(files, str):
        return [files]
    paths = [one.get("path") if isinstance(one, dict) else one for one in files]
    return [str(path) for one in paths for path in (one if isinstance(one, list) else [one]) if path]


def wanted(found: list[Entry], patterns: list[str], place: Place, split: str | None) -> list[Entry]:
    data = [one for one in found if one.size is not None and source.plain_suffix(one.path) in source.FORMATS]
    data = [one for one in data if one.path.rsplit("/", 1)[-1].lower() not in source.NO_DATA and one.size]
    if patterns:
        data = [one for one in data if any(fnmatch(one.path, pattern) for pattern in patterns)]
    elif place.path:
        data = [one for one in data if one.path == place.path or one.path.startswith(f"{place.path}/")]
    if split:
        name = source.SPLITS.get(split.lower(), split)
        data = [one for one in data if source.split_of(one.path) == name]
    if not data:
        raise ToolError(f"No readable data files in {place}. list_files({place.at('')!r}) shows what is there.")
    return data


def from_caches(place: Place) -> tuple[Path, str]:
    """The Hub's cache, else what the datasets library prepared from it earlier."""
    try:
        folder, _ = cached_snapshot(place)
        return folder / place.path, "Offline: from the local cache."
    except ToolError as problem:
        from huggingface_hub import constants

        prepared = Path(constants.HF_HOME) / "datasets" / place.repo_id.replace("/", "___")
        if place.path:
            prepared = prepared / place.path
        if prepared.is_dir() and any(prepared.rglob("*.arrow")):
            return prepared, "Offline: from what the datasets library prepared earlier."
        raise problem from None
