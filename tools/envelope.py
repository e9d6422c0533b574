"""What a tool returns: a plain JSON dict whose `type` tells every front end how to show it.

A result that already is the answer can be given to `final_answer` as it is.
"""

from typing import Any

LONGEST_BRIEF = 12_000


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def report(markdown: str, title: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "report", "title": title, "markdown": markdown, **more}


def table(title: str, columns: list[str], rows: list[list[Any]], note: str = "", **more: Any) -> dict[str, Any]:
    """Rows hold plain values in the order of the columns. `note` says what is missing or where it came from."""
    return {"type": "table", "title": title, "columns": columns, "rows": rows, "note": note, **more}


def file(path: str, title: str = "", size: int | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "file", "path": path, "title": title, "size": size, **more}


def plot(title: str, png: str, **more: Any) -> dict[str, Any]:
    """`png` is base64."""
    return {"type": "plot", "title": title, "png": png, **more}


def job(ref: str, state: str, title: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "job", "ref": ref, "state": state, "title": title, **more}


def markdown_of(envelope: dict[str, Any], most_rows: int = 50) -> str:
    """The envelope as Markdown, for terminals, reports and the model's own reading."""
    kind = envelope.get("type")
    if kind == "text":
        return str(envelope.get("text", ""))
    if kind == "report":
        return str(envelope.get("markdown", ""))
    title = str(envelope.get("title") or "")
    if kind == "table":
        return table_markdown(envelope, title, most_rows)
    if kind == "file":
        return f"{title or 'File'}: `{envelope.get('path')}`"
    if kind == "job":
        return f"`{envelope.get('ref')}`: {envelope.get('state')}{f', {title}' if title else ''}"
    return title or str(kind)


def brief_of(envelope: dict[str, Any]) -> str:
    """What it says, as Markdown and not endlessly, and by which names a program gets at what it holds."""
    said = markdown_of(envelope, 20)
    if len(said) > LONGEST_BRIEF:
        said = f"{said[:LONGEST_BRIEF]}\n… {len(said) - LONGEST_BRIEF} more characters"
    fields = [field(name, value) for name, value in envelope.items() if name not in ("type", "title", "note")]
    return f"{said}\n[a dict with {', '.join(fields)}]"


def field(name: str, value: Any) -> str:
    if name in ("text", "markdown"):
        return name  # what it says stands above
    if isinstance(value, dict) and value.get("type") == "plot":
        return f"{name}: a plot for show()"
    if isinstance(value, dict):
        names = ", ".join(map(str, list(value)[:12]))
        return f"{name}: {{{names}{', …' if len(value) > 12 else ''}}}"
    if isinstance(value, list):
        return f"{name}: list of {len(value)}"
    if isinstance(value, str) and len(value) > 60:
        return f"{name}: text of {len(value)} characters"
    return f"{name}={value!r}"


def table_markdown(envelope: dict[str, Any], title: str, most_rows: int) -> str:
    columns, rows = envelope.get("columns", []), envelope.get("rows", [])
    lines = [f"**{title}**", ""] if title else []
    lines.append("| " + " | ".join(cell(name) for name in columns) + " |")
    lines.append("|" + "---|" * len(columns))
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows[:most_rows]]
    if len(rows) > most_rows:
        lines.append(f"\n… {len(rows) - most_rows} more rows")
    if envelope.get("note"):
        lines.append(f"\n{envelope['note']}")
    return "\n".join(lines)


def cell(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    shown = "" if value is None else str(value)
    return shown.replace("|", "\\|").replace("\n", " ")
