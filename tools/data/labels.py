"""Is a column a label? Of few values it is; many are a quantity, or texts to be retrieved. One line tells the cure."""

from typing import Any

from tools.data.shape import Column, Columns, Form, Row, columns_of, fit

MOST_LABELS = 10_000
REGRESSION = "that is a quantity (regression), which no script here learns. "
REGRESSION += "Add a column of a few classes, such as below and above the median, and train on that."
RETRIEVAL = "finding one of so many is retrieval, not classification."


def is_label(column: Column, rows: list[Row]) -> bool:
    """By some rows; in all of them there may still be too many, which the scan finds."""
    few = column.distinct <= max(20, len(rows) // 2) and column.length <= 60
    return few and (column.kind != "float" or all(is_whole(row.get(column.name)) for row in rows))


def is_whole(value: Any) -> bool:
    return value is None or isinstance(value, str) or float(value).is_integer()


def label_kind(form: Form) -> str:
    return form.kinds.get("label") or form.kinds.get("tags") or ""


def too_many(path: str, form: Form) -> str:
    """Why a column of over MOST_LABELS values cannot be a label, and what to do instead."""
    label = form.columns.get("label") or form.columns["tags"]
    many = f"{label!r} has over {MOST_LABELS:,} different values"
    if form.name == "tokens and tags":
        return f"{many}: those are no tags. Name the column of tags in `mapping`."
    if label_kind(form) != "text":
        return f"{many}: {REGRESSION}"
    if form.name == "image and label":
        return f"{many}: {RETRIEVAL} No script here learns that from images: use wider classes."
    roles = {"anchor": form.columns["text"], "positive": label}
    return f"{many}: {RETRIEVAL} Train embeddings: prepare_dataset({path!r}, 'embeddings', mapping={roles!r})."


def like_a_label(rows: list[Row]) -> str:
    """Why the column that is named like a label is none; "" if there is no such column."""
    columns = Columns(columns_of(rows), {})
    for one in columns.all.values():
        if max(fit(one.name, "label"), fit(one.name, "score")) < 0.7 or is_label(one, rows):
            continue
        many = f"{one.name!r} holds {one.distinct} different values in the first {len(rows)} rows"
        if one.kind in ("int", "float"):
            return f"{many}, and they are numbers: {REGRESSION}"
        if one.kind == "text" and one.length <= 60:
            return f"{many}: {RETRIEVAL} Train embeddings, with the text as `anchor` and this as `positive`."
    return ""
