"""A session as one HTML file to read and to hand on: no script, nothing loaded from anywhere, light and dark.

What a model or a program wrote is untrusted: it stands as escaped text, or as Markdown without raw HTML and pictures,
and the page's own policy forbids scripts, forms and every request besides.
"""

import base64
import json
import time
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

from agent.events import Event
from agent.store.export import joined

Picture = Callable[[str], bytes | None]
MOST_ROWS = 500
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --bad: #c22; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } .facts, .note { opacity: .7; font-size: .85rem; }
pre { background: var(--soft); border-radius: .5rem; padding: .7rem .9rem; overflow-x: auto; font-size: .85rem;
  max-height: 32rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.task { background: var(--soft); border-radius: .8rem; padding: .7rem 1rem; white-space: pre-wrap; margin-top: 2.5rem;
  overflow-wrap: anywhere; }
.answer { border-left: 3px solid #57a; padding-left: 1rem; overflow-wrap: anywhere; }
.error { color: var(--bad); overflow-wrap: anywhere; } details { margin: .6rem 0; } summary { cursor: pointer; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .85rem; }
td, th { border: 1px solid var(--line); padding: .25rem .6rem; text-align: left; } img { max-width: 100%; }
"""


def page(header: dict[str, Any], events: Iterable[Event], picture: Picture = lambda path: None) -> str:
    """`picture` gives the PNG bytes of an artifact's path, where it may be shown."""
    title = escape(header["title"] or header["id"])
    begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(header["created"]))
    body = "\n".join(part for kind, data in joined(events) if (part := block(kind, data, picture)))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{title}</h1>\n"
        f'<p class="facts">{begun} · {escape(header["model"] or "no model")} · session {escape(header["id"])}</p>\n'
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def block(kind: str, data: dict[str, Any], picture: Picture) -> str:
    text = str(data.get("text", ""))
    if kind == "task":
        return f'<section class="task">{escape(text)}</section>'
    if kind == "thought":
        return folded("Thought", f"<pre>{escape(text)}</pre>") if text.strip() else ""
    if kind == "code":
        return f"<pre><code>{escape(text)}</code></pre>"
    if kind == "output":
        return folded("Output", f"<pre>{escape(text)}</pre>", opened=len(text) < 2_000) if text.strip() else ""
    if kind == "answer":
        shown = enveloped(data["envelope"]) if "envelope" in data else markdown(text)
        return f'<section class="answer">{shown}</section>'
    if kind == "tool_call":
        return folded(f"Tool {data.get('tool')}", f"<pre>{escape(pretty(data.get('arguments')))}</pre>")
    if kind == "tool_result":
        if data.get("ok"):
            return folded(f"Result of {data.get('tool')}", enveloped(data.get("result")))
        return f'<p class="error">{escape(str(data.get("tool")))}: {escape(str(data.get("error", "")))}</p>'
    if kind == "approval":
        told = " ".join(str(data.get(name, "")) for name in ("decision", "what", "where", "reason"))
        return f'<p class="note">Approval: {escape(told)}</p>'
    if kind == "artifact":
        return artifact(data, picture)
    if kind == "error":
        return f'<p class="error">{escape(text)}</p>'
    if kind == "state" and data.get("state") not in ("idle", "running", "waiting"):
        reason = f": {data['reason']}" if data.get("reason") else ""
        return f'<p class="note">{escape(str(data.get("state")))}{escape(reason)}</p>'
    return ""


def artifact(data: dict[str, Any], picture: Picture) -> str:
    title = escape(str(data.get("title") or "file"))
    shown = picture(str(data.get("path", ""))) if data.get("kind") == "plot" else None
    if shown is None:
        return f'<p class="note">File: {title}</p>'
    return f'<img alt="{title}" src="data:image/png;base64,{base64.b64encode(shown).decode()}">'


def folded(title: str, inner: str, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{inner}</details>"


def enveloped(envelope: Any) -> str:
    if isinstance(envelope, dict):
        kind = envelope.get("type")
        if kind == "table" and isinstance(envelope.get("columns"), list) and isinstance(envelope.get("rows"), list):
            return table(envelope)
        if kind == "report":
            return markdown(str(envelope.get("markdown", "")))
        if kind == "text":
            return f"<pre>{escape(str(envelope.get('text', '')))}</pre>"
    return f"<pre>{escape(pretty(envelope))}</pre>"


def table(envelope: dict[str, Any]) -> str:
    head = "".join(f"<th>{escape(str(name))}</th>" for name in envelope["columns"])
    rows = [row for row in envelope["rows"][:MOST_ROWS] if isinstance(row, list)]
    cells = ("".join(f"<td>{escape('' if one is None else str(one))}</td>" for one in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    left = len(envelope["rows"]) - len(rows)
    more = f'<p class="note">… {left} more rows</p>' if left else ""
    title = escape(str(envelope.get("title") or ""))
    return f"<p><strong>{title}</strong></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def markdown(text: str) -> str:
    """Without raw HTML and pictures; links of other kinds than http(s) stay text."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "html_block", "html_inline"])
    made.validateLink = lambda url: url.startswith(("https://", "http://"))  # type: ignore[method-assign]
    return str(made.render(text))


def pretty(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)
