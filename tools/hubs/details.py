"""What a repository is, in a page: facts from the Hub's own record, the card's words, a dataset's structure.

Where the record is silent the page is silent; nothing is guessed. From the cache only what the cached files tell.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.context import ToolError
from tools.hubs.cache import cached_files, cached_snapshot, safetensors_parameters
from tools.hubs.files import cached_readme
from tools.hubs.place import Place

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD_LENGTH = 1_500
FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
NOISE = re.compile(r"<!--.*?-->|<[^>]+>|!\[[^\]]*\]\([^)]*\)", re.DOTALL)


def details_online(place: Place) -> Callable[["HfApi"], dict[str, Any]]:
    def question(api: "HfApi") -> dict[str, Any]:
        info: Any = api.repo_info(place.repo_id, repo_type=place.kind, revision=place.revision, files_metadata=True)
        card = info.card_data.to_dict() if info.card_data else {}
        siblings = info.siblings or []
        facts = {
            "id": info.id,
            "kind": place.kind,
            "revision": info.sha,
            "last_commit": info.last_modified.isoformat(timespec="minutes") if info.last_modified else None,
            "license": card.get("license") or tag_of(info.tags, "license"),
            "gated": info.gated or False,
            "private": bool(info.private),
            "downloads": getattr(info, "downloads", None),
            "likes": info.likes,
            "files": len(siblings),
            "bytes": sum(one.size or 0 for one in siblings),
            "tags": [tag for tag in info.tags or [] if ":" not in tag][:20],
        }
        facts |= OF_KIND[place.kind](info, card)
        if place.kind == "model" and not facts["parameters"]:
            facts["parameters"] = _header(api, place, [one.rfilename for one in siblings])
        return facts | {"card": _readme(api, place) if any(one.rfilename == "README.md" for one in siblings) else ""}

    return question


def details_cached(place: Place) -> dict[str, Any]:
    folder, there = cached_snapshot(place)
    files = cached_files(place)
    readme = cached_readme(place)
    text = readme.read_text(errors="replace") if readme else ""
    card = front_matter(text)
    facts: dict[str, Any] = {
        "id": there.repo_id,
        "kind": there.kind,
        "revision": folder.name,
        "license": card.get("license"),
        "files": len(files),
        "bytes": sum(size for _, size in files),
    }
    config = folder / "config.json"
    if config.is_file():
        facts["architecture"] = _config(config).get("model_type")
    weights = [folder / name for name, _ in files if name.endswith(".safetensors")]
    if weights:
        parts = [safetensors_parameters(path) for path in weights]
        facts["parameters"] = sum(sum(part.values()) for part in parts) or None
    if there.kind == "dataset":
        facts |= structure(card)
    return facts | {"card": summary(text)}


def markdown_of(facts: dict[str, Any]) -> str:
    lines = []
    for key, value in facts.items():
        if value in (None, [], {}, "") or key in ("id", "kind", "card", "configs", "items"):
            continue
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        shown = ", ".join(map(str, value)) if isinstance(value, list) else shown
        shown = f"{value / 1e6:,.1f} MB" if key == "bytes" else shown
        lines.append(f"- {'total size' if key == 'bytes' else key.replace('_', ' ')}: {shown}")
    for config in facts.get("configs") or []:
        splits = ", ".join(f"{name} ({rows:,} rows)" if rows else name for name, rows in config["splits"].items())
        lines.append(f"- config `{config['name']}`: {splits or 'splits not told'}")
        if config["features"]:
            lines.append("  - columns: " + ", ".join(f"{name}: {type_}" for name, type_ in config["features"].items()))
    for item in facts.get("items") or []:
        lines.append(f"- {item['kind']} `{item['id']}`" + (f": {item['note']}" if item["note"] else ""))
    return "\n".join(lines) + (f"\n\n{facts['card']}" if facts.get("card") else "")


def collection_online(slug: str) -> Callable[["HfApi"], dict[str, Any]]:
    def question(api: "HfApi") -> dict[str, Any]:
        found = api.get_collection(slug)
        items = [{"kind": one.item_type, "id": one.item_id, "note": one.note} for one in found.items[:100]]
        return {
            "id": found.slug,
            "kind": "collection",
            "title": found.title,
            "owner": getattr(found.owner, "name", None) or _owner(found.owner),
            "last_updated": found.last_updated.isoformat(timespec="minutes"),
            "likes": found.upvotes,
            "entries": len(found.items),
            "items": items,
            "card": found.description or "",
        }

    return question


def front_matter(text: str) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    match = FRONT.match(text)
    try:
        found = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        found = None
    return found if isinstance(found, dict) else {}


def summary(text: str) -> str:
    """The beginning of a card without its front matter, pictures and HTML."""
    plain = re.sub(r"\n\s*\n+", "\n\n", NOISE.sub("", FRONT.sub("", text))).strip()
    return (
        plain if len(plain) <= CARD_LENGTH else plain[:CARD_LENGTH].rsplit("\n", 1)[0] + "\n… (read README.md for more)"
    )


def structure(card: dict[str, Any]) -> dict[str, Any]:
    """Configs with splits and columns, as far as a dataset card's metadata tells."""
    infos = card.get("dataset_info") or []
    configs: dict[str, dict[str, Any]] = {}
    for info in infos if isinstance(infos, list) else [infos]:
        name = info.get("config_name", "default")
        splits = {one["name"]: one.get("num_examples") for one in info.get("splits") or []}
        features = info.get("features")
        columns = {one["name"]: _type(one) for one in features} if isinstance(features, list) else {}
        configs[name] = {"name": name, "splits": splits, "features": columns}
    for config in card.get("configs") or []:
        name = config.get("config_name", "default")
        known = configs.setdefault(name, {"name": name, "splits": {}, "features": {}})
        for one in config.get("data_files") or [] if isinstance(config.get("data_files"), list) else []:
            known["splits"].setdefault(one.get("split", "train"), None)
    return {"configs": list(configs.values())[:50]}


def _model(info: Any, card: dict[str, Any]) -> dict[str, Any]:
    tensors, gguf = info.safetensors, info.gguf or {}
    config = info.config or {}
    return {
        "task": info.pipeline_tag,
        "library": info.library_name,
        "base_model": card.get("base_model"),
        "architecture": config.get("model_type") or gguf.get("architecture"),
        "parameters": (tensors.total if tensors else None) or gguf.get("total"),
        "data_types": list(tensors.parameters) if tensors else None,
        "context": gguf.get("context_length"),
    }


def _dataset(info: Any, card: dict[str, Any]) -> dict[str, Any]:
    return {
        "tasks": card.get("task_categories"),
        "languages": card.get("language"),
        "size": tag_of(info.tags, "size_categories"),
    } | structure(card)


def _space(info: Any, card: dict[str, Any]) -> dict[str, Any]:
    runtime = info.runtime
    return {
        "sdk": info.sdk,
        "stage": runtime.stage if runtime else None,
        "hardware": runtime.hardware if runtime else None,
        "title": card.get("title"),
        "models": info.models,
    }


OF_KIND: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    "model": _model,
    "dataset": _dataset,
    "space": _space,
}


def _header(api: "HfApi", place: Place, files: list[str]) -> int | None:
    """From the file's own header, when the Hub has not counted."""
    if "model.safetensors" not in files:
        return None
    from huggingface_hub.errors import HfHubHTTPError, SafetensorsParsingError

    try:
        found = api.parse_safetensors_file_metadata(
            place.repo_id, "model.safetensors", repo_type=place.kind, revision=place.revision
        )
    except (HfHubHTTPError, SafetensorsParsingError):  # gated, or not what its name says: the page goes without
        return None
    return sum(found.parameter_count.values())


def _readme(api: "HfApi", place: Place) -> str:
    from tools.hubs.files import piece

    try:
        _, found, _ = piece(Place(place.kind, place.repo_id, place.revision, "README.md"), 0, 60_000)
    except ToolError as problem:
        return f"(The card could not be read: {problem})"
    return summary(found.content.decode(errors="replace"))


def _type(feature: dict[str, Any]) -> str:
    if "dtype" in feature:
        dtype = feature["dtype"]
        return dtype if isinstance(dtype, str) else "class label"
    for container in ("list", "sequence"):
        if container in feature:
            inner = feature[container]
            return f"list of {inner if isinstance(inner, str) else 'records'}"
    return "record" if "struct" in feature else "unknown"


def tag_of(tags: list[str] | None, name: str) -> str | None:
    return next((tag.split(":", 1)[1] for tag in tags or [] if tag.startswith(f"{name}:")), None)


def _config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _owner(owner: Any) -> Any:
    return owner.get("name") if isinstance(owner, dict) else owner
