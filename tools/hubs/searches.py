"""One question per kind of thing that can be searched; each answers with rows in the order of its columns."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from tools.context import ToolError
from tools.hubs.cache import cached_repos
from tools.hubs.client import endpoint, get_json
from tools.hubs.details import tag_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Rows = list[list[Any]]
SORTS = {"trending": "trending_score", "downloads": "downloads", "likes": "likes", "updated": "last_modified"}
COLUMNS = {
    "model": ["id", "task", "parameters", "downloads", "likes", "gated", "updated"],
    "dataset": ["id", "size", "downloads", "likes", "gated", "updated"],
    "space": ["id", "sdk", "stage", "likes", "updated"],
    "collection": ["id", "title", "likes", "items", "updated"],
    "paper": ["id", "title", "date", "likes"],
}
CACHE_COLUMNS = ["id", "bytes on disk", "files", "revisions"]


@dataclass(frozen=True)
class Wanted:
    query: str
    author: str | None
    tags: list[str] | None
    sort: str
    limit: int

    def listing(self, expand: list[str], sorts: dict[str, str] = SORTS) -> dict[str, Any]:
        """As the library's list functions take it."""
        return {
            "search": self.query or None,
            "author": self.author,
            "filter": self.tags,
            "sort": sorts[self.sort],
            "limit": self.limit,
            "expand": expand,
        }


def models(wanted: Wanted) -> Callable[["HfApi"], Rows]:
    def question(api: "HfApi") -> Rows:
        expand = ["pipeline_tag", "safetensors", "downloads", "likes", "gated", "lastModified"]
        return [
            [
                one.id,
                one.pipeline_tag,
                one.safetensors.total if one.safetensors else None,
                one.downloads,
                one.likes,
                one.gated or False,
                day(one.last_modified),
            ]
            for one in api.list_models(**wanted.listing(expand))
        ]

    return question


def datasets(wanted: Wanted) -> Callable[["HfApi"], Rows]:
    def question(api: "HfApi") -> Rows:
        expand = ["downloads", "likes", "gated", "lastModified", "tags"]
        return [
            [
                one.id,
                tag_of(one.tags, "size_categories"),
                one.downloads,
                one.likes,
                one.gated or False,
                day(one.last_modified),
            ]
            for one in api.list_datasets(**wanted.listing(expand))
        ]

    return question


def spaces(wanted: Wanted) -> Callable[["HfApi"], Rows]:
    def question(api: "HfApi") -> Rows:
        sorts = SORTS | {"downloads": "likes"}  # Spaces count no downloads
        expand = ["sdk", "runtime", "likes", "lastModified"]
        return [
            [one.id, one.sdk, one.runtime.stage if one.runtime else None, one.likes, day(one.last_modified)]
            for one in api.list_spaces(**wanted.listing(expand, sorts))
        ]

    return question


def collections(wanted: Wanted) -> Callable[["HfApi"], Rows]:
    sort = {"trending": "trending", "updated": "lastModified"}.get(wanted.sort, "upvotes")
    asked = {"q": wanted.query, "owner": wanted.author, "sort": sort, "limit": 100}
    question = get_json("/api/collections", {key: value for key, value in asked.items() if value})

    def answer(api: "HfApi") -> Rows:
        rows: Rows = []
        for one in question(api):
            # a Hub that does not know `q` answers with everything
            told = f"{one['slug']} {one.get('title')} {one.get('description') or ''}".lower()
            if all(word in told for word in wanted.query.lower().split()):
                items = len(one.get("items") or [])
                rows.append([one["slug"], one.get("title"), one.get("upvotes"), items, one.get("lastUpdated", "")[:10]])
        return rows[: wanted.limit]

    return answer


def papers(wanted: Wanted) -> Callable[["HfApi"], Rows]:
    def question(api: "HfApi") -> Rows:
        found = islice(api.list_papers(query=wanted.query or None, limit=wanted.limit), wanted.limit)
        return [[one.id, one.title, day(one.published_at), one.upvotes] for one in found]

    return question


SEARCHES: dict[str, Callable[[Wanted], Callable[["HfApi"], Rows]]] = {
    "model": models,
    "dataset": datasets,
    "space": spaces,
    "collection": collections,
    "paper": papers,
}


def search_cache(wanted: Wanted, kind: str) -> Rows:
    if kind in ("collection", "paper"):
        raise ToolError(f"{kind.capitalize()}s are not kept in the local cache, and {endpoint()} is not asked.")
    words = wanted.query.lower().split()
    owner = f"{wanted.author.lower()}/" if wanted.author else ""
    found = [
        repo
        for repo in cached_repos(kind)
        if repo.repo_id.lower().startswith(owner) and all(word in repo.repo_id.lower() for word in words)
    ]
    if not found:
        raise ToolError(
            f"The Hub is not asked, and no {kind} in the local cache fits. Try query='' to see what is there."
        )
    return [[repo.repo_id, repo.size_on_disk, repo.nb_files, len(repo.revisions)] for repo in found[: wanted.limit]]


def day(when: Any) -> str | None:
    return when.date().isoformat() if when else None
