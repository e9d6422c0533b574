"""Papers on the Hub: search them, read them, and see which models and datasets came with them.

Only the Hub is asked, never arXiv itself; a paper the Hub has no full text of is told by its abstract.
"""

import re
from typing import TYPE_CHECKING, Any

from tools import envelope
from tools.context import ToolError
from tools.declare import tool
from tools.hubs.client import NoEntry, Unreachable, ask, offline
from tools.hubs.searches import day

if TYPE_CHECKING:
    pass

PIECE = 20_000  # characters of full text at a time
ARXIV = re.compile(r"(?:^|[/:\s])(\d{4}\.\d{4,5})(?:v\d+)?|((?:[a-z-]+(?:\.[A-Z]{2})?)/\d{7})")
OFFLINE = "Offline: papers are not kept in the local cache. They can be read online."


@tool(risk="free")
def search_papers(query: str, limit: int = 10) -> dict:
    """Search papers on the Hub by what they are about.

    Args:
        query: What the paper is about, for example "preference optimisation without a reward model".
        limit: How many, at most 50.

    Returns:
        A table of id, title, date, likes and a short summary; the id is for read_paper.
    """
    limit = max(1, min(limit, 50))
    found, note = _ask(lambda api: list(api.list_papers(query=query, limit=limit))[:limit])
    rows = [
        [one.id, one.title, day(one.published_at), one.upvotes, _short(one.ai_summary or one.summary)] for one in found
    ]
    if not rows:
        note = f"{note} Nothing found. Describe the subject in other words.".strip()
    return envelope.table(f"Papers on {query!r}", ["id", "title", "date", "likes", "summary"], rows, note)


@tool(risk="free")
def read_paper(paper: str, start: int = 0) -> dict:
    """Read a paper: abstract, its models and datasets on the Hub, and the full text where the Hub has it.

    Args:
        paper: An arXiv id such as "2305.18290", or an arXiv or Hub address.
        start: Where in the full text to go on, in characters: `next_start` of the last piece.

    Returns:
        A report; `next_start` is None at the end; `models` and `datasets` are ids for repo_details.
    """
    match = ARXIV.search(paper.strip())
    if not match:
        raise ToolError(f"{paper!r} holds no arXiv id such as 2305.18290. Find the paper with search_papers.")
    name = match[1] or match[2]
    try:
        info, note = _ask(lambda api: api.paper_info(name))
    except NoEntry:
        raise ToolError(f"arXiv {name} is not on the Hub. Look for it by its title with search_papers.") from None
    body = _full_text(name)
    if body is None:
        note = f"{note} The Hub has no full text of it, only the abstract.".strip()
    start = max(0, start)
    if body and start >= len(body):
        raise ToolError(f"The text has {len(body):,} characters: start={start} is beyond its end.")
    piece = (body or "")[start : start + PIECE]
    following = start + PIECE if body and start + PIECE < len(body) else None
    if following:
        note = f"{note} {following:,} of {len(body or ''):,} characters so far; go on with start={following}.".strip()
    links = {
        "models": [one.id for one in info.linked_models or []][:20],
        "datasets": [one.id for one in info.linked_datasets or []][:20],
        "spaces": [one.id for one in info.linked_spaces or []][:20],
    }
    parts = [] if start else [_head(info, links)]
    markdown = "\n\n".join([*parts, piece, note]).strip()
    return envelope.report(markdown, info.title or name, id=name, next_start=following, note=note, **links)


def _head(info: Any, links: dict[str, list[str]]) -> str:
    authors = ", ".join(author.name for author in (info.authors or [])[:10])
    more = f" and {len(info.authors) - 10} more" if len(info.authors or []) > 10 else ""
    lines = [f"{authors}{more} · {day(info.published_at)} · arXiv {info.id}", "", info.summary or "(no abstract)", ""]
    lines += [f"- {kind}: {', '.join(ids)}" for kind, ids in links.items() if ids]
    lines += [f"- {what}: {url}" for what, url in (("code", info.github_repo), ("page", info.project_page)) if url]
    return "\n".join(lines).strip()


def _full_text(name: str) -> str | None:
    try:
        body, _ = _ask(lambda api: api.read_paper(name))
    except (NoEntry, Unreachable):
        return None
    return None if body.lstrip()[:15].lower().startswith(("<!doctype", "<html")) else body


def _ask(question: Any) -> tuple[Any, str]:
    if offline():
        raise ToolError(OFFLINE)
    return ask(question)


def _short(summary: str | None) -> str:
    words = " ".join((summary or "").split())
    return words if len(words) <= 200 else words[:200].rsplit(" ", 1)[0] + " …"
