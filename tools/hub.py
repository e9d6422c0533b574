"""Looking around the Hugging Face Hub: who am I, search, details, and the files of any repository.

Public data needs no token. Offline, or when the Hub does not answer, the local cache answers and the note says so.
Nothing is written, neither on the Hub nor here.
"""

from fnmatch import fnmatch
from typing import Any, Literal

from tools import envelope
from tools.context import ToolError, here
from tools.declare import tool
from tools.hubs import details, files
from tools.hubs.client import account, ask, offline, reach
from tools.hubs.place import place_of
from tools.hubs.searches import CACHE_COLUMNS, COLUMNS, SEARCHES, SORTS, Wanted, search_cache

SearchKind = Literal["model", "dataset", "space", "collection", "paper"]
DetailKind = Literal["model", "dataset", "space", "collection"]
Sort = Literal["trending", "downloads", "likes", "updated"]
MOST_ROWS = 200
MOST_BYTES = 100_000


@tool(risk="free")
def whoami() -> dict:
    """Tell which Hugging Face account is signed in and what its token may do.

    Returns:
        A text; `user` (None when nobody is signed in), `orgs`, `plan`, `can_pay`, `token_role` and `scopes` with it.
    """
    nobody: dict[str, Any] = {
        "user": None,
        "orgs": [],
        "plan": None,
        "can_pay": False,
        "token_role": None,
        "scopes": [],
    }
    if not here().hf_token:
        return envelope.text("Nobody is signed in: public data only. Set HF_TOKEN to use an account.", **nobody)
    if offline():
        return envelope.text("Offline: a token is set, whose it is cannot be asked.", **nobody)
    found = account()
    token = (found.get("auth") or {}).get("accessToken") or {}
    fine = token.get("fineGrained") or {}
    rights = {right for scope in fine.get("scoped") or [] for right in scope.get("permissions") or []}
    rights |= set(fine.get("global") or [])
    known: dict[str, Any] = {
        "user": found.get("name"),
        "orgs": [org["name"] for org in found.get("orgs") or []],
        "plan": "pro" if found.get("isPro") else "free",
        "can_pay": bool(found.get("canPay")),
        "token_role": token.get("role"),
        "scopes": sorted(rights),
    }
    orgs = f", in {', '.join(known['orgs'])}" if known["orgs"] else ""
    shown = f" ({', '.join(known['scopes'])})" if known["scopes"] else ""
    line = f"{known['user']} ({known['plan']}{', can pay' if known['can_pay'] else ''}{orgs}); "
    return envelope.text(f"{line}token: {known['token_role'] or 'of unknown role'}{shown}.", **known)


@tool(risk="free")
def search_hub(
    query: str,
    kind: SearchKind = "model",
    author: str | None = None,
    filters: list[str] | None = None,
    sort: Sort = "trending",
    limit: int = 10,
) -> dict:
    """Search the Hub for models, datasets, Spaces, collections or papers.

    Args:
        query: Words in the name, for example "qwen3 0.6b"; "" for everything that fits the other arguments.
        kind: "model", "dataset", "space", "collection" or "paper".
        author: A user or organisation, for example "Qwen".
        filters: Tags that must all be there, for example ["text-generation", "license:apache-2.0", "language:de"].
        sort: "trending", "downloads", "likes" or "updated".
        limit: How many, at most 100.

    Returns:
        A table; the first column is the id for repo_details (papers: for read_paper).
    """
    if kind not in COLUMNS:
        raise ToolError(f"Unknown kind {kind!r}. Use one of: {', '.join(COLUMNS)}.")
    if sort not in SORTS:
        raise ToolError(f"Unknown sort {sort!r}. Use one of: {', '.join(SORTS)}.")
    tags = [filters] if isinstance(filters, str) else filters
    wanted = Wanted(query, author, tags, sort, max(1, min(limit, 100)))
    rows, note = reach(SEARCHES[kind](wanted), lambda: search_cache(wanted, kind))
    if (kind == "paper" and (author or tags)) or (kind == "collection" and tags):
        note = f"{note} {'author and filters do' if kind == 'paper' else 'filters does'} not apply to {kind}s.".strip()
    if not rows and not note:
        note = "Nothing found. Try fewer or other words, or leave author and filters out."
    columns = COLUMNS[kind] if not rows or len(rows[0]) == len(COLUMNS[kind]) else CACHE_COLUMNS
    return envelope.table(
        f"{kind.capitalize()}s for {query!r}" if query else f"{kind.capitalize()}s", columns, rows, note
    )


@tool(risk="free")
def repo_details(repo_id: str, kind: DetailKind | None = None, revision: str | None = None) -> dict:
    """Tell what a model, dataset, Space or collection is: size, parameters, licence, access, files, structure, card.

    Args:
        repo_id: "owner/name", an hf:// path or a web address.
        kind: "model", "dataset", "space" or "collection"; found out when left out.
        revision: A branch, tag or commit; main when left out.

    Returns:
        A report; its `details` hold the same facts as values (parameters, bytes, license, gated, configs and so on).
    """
    if "/papers/" in repo_id:
        raise ToolError(f"{repo_id!r} is a paper: use read_paper.")
    slug = repo_id.split("collections/", 1)[-1].strip("/") if "collections/" in repo_id else None
    if slug or kind == "collection":
        facts, note = ask(details.collection_online(slug or repo_id))
    else:
        place = place_of(repo_id, kind, revision)
        _, facts, note = files.find(place, details.details_online, details.details_cached)
    shown = details.markdown_of(facts) + (f"\n\n{note}" if note else "")
    return envelope.report(shown, f"{facts['kind']} {facts['id']}", details=facts, note=note)


@tool(risk="free")
def list_files(path: str) -> dict:
    """List one folder of a repository with sizes.

    Args:
        path: hf://owner/name, hf://datasets/owner/name/folder or hf://spaces/owner/name@revision.

    Returns:
        A table of path, type and bytes; at most 200 rows, the note tells if there are more.
    """
    there, found, note = files.entries(place_of(path), recursive=False)
    return _files_table(f"Files in {there}", found, note)


@tool(risk="free")
def find_files(repo: str, pattern: str) -> dict:
    """Find the files of a repository whose path fits a pattern, in all its folders.

    Args:
        repo: hf://owner/name or hf://datasets/owner/name@revision; a folder in it is searched alone.
        pattern: "*.parquet", "data/*train*" or "config.json".

    Returns:
        A table of path, type and bytes; at most 200 rows, the note tells if there are more.
    """
    there, found, note = files.entries(place_of(repo), recursive=True)
    if len(found) == files.MOST_ENTRIES:
        note = f"{note} Only the first {files.MOST_ENTRIES:,} entries were looked at: name a folder.".strip()
    fitting = [
        one
        for one in found
        if one.size is not None and (fnmatch(one.path, pattern) or fnmatch(one.path.rsplit("/", 1)[-1], pattern))
    ]
    if not fitting:
        note = f"{note} None of {len(found)} entries fits; list_files({there.at('')!r}) shows what is there.".strip()
    return _files_table(f"{pattern} in {there}", fitting, note)


@tool(risk="free")
def read_file(path: str, start: int = 0, length: int = 20_000) -> dict:
    """Read a piece of a text file in a repository, of any size.

    Args:
        path: hf://owner/name/config.json, hf://datasets/owner/name@revision/data/train.jsonl, or a web address.
        start: Where to begin, in bytes; `next_start` of the last piece continues it.
        length: How many bytes, at most 100,000.

    Returns:
        A text; `size` is the whole file's, `next_start` is None at its end.
    """
    place = place_of(path)
    if not place.path:
        raise ToolError(f"{path!r} is a repository. Add a file's path; list_files({path!r}) shows them.")
    start, length = max(0, start), max(1, min(length, MOST_BYTES))
    there, found, note = files.piece(place, start, length)
    if start and start >= found.size:
        raise ToolError(f"{there.path} has {found.size:,} bytes: start={start} is beyond its end.")
    value, end = files.text_of(found, length, there.path)
    following = end if end < found.size else None
    if following:
        note = f"{note} {following:,} of {found.size:,} bytes read so far; go on with start={following}.".strip()
    return envelope.text(value, path=str(there), size=found.size, next_start=following, note=note)


def _files_table(title: str, found: list[files.Entry], note: str) -> dict:
    rows = [[one.path, "folder" if one.size is None else "file", one.size] for one in found[:MOST_ROWS]]
    if len(found) > MOST_ROWS:
        note = f"{note} {MOST_ROWS} of {len(found):,} shown: name a folder, or use find_files.".strip()
    return envelope.table(title, ["path", "type", "bytes"], rows, note, total=len(found))
