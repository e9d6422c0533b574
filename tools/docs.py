"""The documentation of the Hub and its libraries: search it, read its pages as Markdown.

Only pages under /docs and /learn of the configured Hub are read, also after a redirect, and never with a token.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from tools import envelope
from tools.context import ToolError, here
from tools.declare import tool
from tools.hubs.client import NoEntry, ask, endpoint, get_json, offline, opened, refused

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PIECE = 20_000  # characters of a page at a time
MOST_BYTES = 4_000_000
MOST_ROWS = 15
FOLDERS = ("/docs/", "/learn/")
ALIASES = ("huggingface.co", "www.huggingface.co", "hf.co")  # written in links, whatever Hub is configured
OFFLINE = "Offline: the documentation is not kept in the local cache. It can be read online."


@tool(risk="free")
def search_docs(query: str, product: str | None = None) -> dict:
    """Search the documentation of the Hub and its libraries (transformers, trl, peft, datasets, gradio and others).

    Args:
        query: What to know, for example "SFTTrainer packing"; "" lists the products.
        product: Only this product's pages, for example "trl".

    Returns:
        A table of product, page, section, excerpt and address; the address is for read_docs.
    """
    if offline():
        raise ToolError(OFFLINE)
    if not query.strip():
        found, note = ask(get_json("/api/docs", {}, signed=False), signed=False)
        rows = [[one.get("id"), one.get("category"), urljoin(endpoint(), one.get("url") or "")] for one in found]
        return envelope.table("Documentation", ["product", "category", "address"], rows, note)
    asked = {"q": query} | ({"product": product} if product else {})
    found, note = ask(get_json("/api/docs/search", asked, signed=False), signed=False)
    rows = [
        [
            one.get("product"),
            one.get("heading1") or one.get("source_page_title"),
            one.get("heading2"),
            _excerpt(one.get("text")),
            one.get("source_page_url"),
        ]
        for one in found[:MOST_ROWS]
    ]
    if not rows:
        note = "Nothing found. Use other words, or leave product out."
    elif len(found) > MOST_ROWS:
        note = f"{MOST_ROWS} of {len(found)} shown: use more exact words, or name a product."
    columns = ["product", "page", "section", "excerpt", "address"]
    return envelope.table(f"Documentation on {query!r}", columns, rows, note)


@tool(risk="free")
def read_docs(path_or_url: str, start: int = 0) -> dict:
    """Read a page of the documentation as Markdown.

    Args:
        path_or_url: "trl/sft_trainer", "/docs/trl/sft_trainer" or an address from search_docs.
        start: Where to go on, in characters: `next_start` of the last piece.

    Returns:
        A report; `next_start` is None at the end.
    """
    url = page_url(path_or_url)
    if offline():
        raise ToolError(OFFLINE)
    try:
        (final, body), note = ask(_markdown(url), signed=False)
    except NoEntry:
        raise ToolError(f"There is no page {url}. Find its address with search_docs.") from None
    start = max(0, start)
    if start and start >= len(body):
        raise ToolError(f"The page has {len(body):,} characters: start={start} is beyond its end.")
    following = start + PIECE if start + PIECE < len(body) else None
    if following:
        note = f"{following:,} of {len(body):,} characters so far; go on with start={following}."
    shown = f"{body[start : start + PIECE]}\n\n{note}".strip()
    return envelope.report(shown, final.removeprefix(endpoint()), url=final, next_start=following, note=note)


def page_url(text: str) -> str:
    """The page's address on the configured Hub; anything else is refused."""
    text = text.strip()
    if "://" not in text and not text.startswith("//"):
        text = text.lstrip("/")
        inside = text if f"/{text}".startswith(FOLDERS) else f"docs/{text}"
        return allowed(f"{endpoint()}/{inside}")
    parts = urlsplit(text)
    if parts.scheme == "https" and parts.netloc in ALIASES:
        text = f"{endpoint()}{parts.path}"
    return allowed(text)


def allowed(url: str) -> str:
    parts, hub = urlsplit(url), urlsplit(endpoint())
    path = parts.path.removeprefix(hub.path)
    same = (parts.scheme, parts.netloc) == (hub.scheme, hub.netloc) and parts.path.startswith(hub.path)
    # %2e%2e and backslashes: some servers read them as a way up
    if not same or not path.startswith(FOLDERS) or "\\" in url or any(dots in url.lower() for dots in ("..", "%2e")):
        raise ToolError(f"{url!r} is no documentation page of {endpoint()}. Use an address from search_docs.")
    return f"{hub.scheme}://{hub.netloc}{parts.path}"


def _markdown(url: str) -> Callable[["HfApi"], tuple[str, str]]:
    def question(api: "HfApi") -> tuple[str, str]:
        for address in (url, f"{url.removesuffix('.md')}.md"):
            final, body = _fetch(address)
            if not body.lstrip()[:15].lower().startswith(("<!doctype", "<html")):
                return final, body
        raise ToolError(f"{url} is no Markdown page. Use an address from search_docs.")

    return question


def _fetch(url: str) -> tuple[str, str]:
    headers = {"accept": "text/markdown, text/plain;q=0.9, */*;q=0.1"}
    visited: set[str] = set()
    while url not in visited and len(visited) < 5:
        visited.add(url)
        with opened(url, headers=headers, follow_redirects=False) as response:
            if response.has_redirect_location:
                url = allowed(urljoin(url, response.headers["location"]))
                continue
            refused(response)
            body = b""
            for chunk in response.iter_bytes():
                here().check()
                body += chunk
                if len(body) > MOST_BYTES:
                    break
            return url, body.decode(errors="replace")
    raise ToolError(f"{url} redirects in circles. Use an address from search_docs.")


def _excerpt(text: str | None) -> str:
    words = " ".join((text or "").split())
    return words if len(words) <= 300 else words[:300].rsplit(" ", 1)[0] + " …"
