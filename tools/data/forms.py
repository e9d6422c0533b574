"""One small recogniser per form; together they say what some rows can be read as, the surest first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.context import ToolError
from tools.data.boxes import way_of
from tools.data.labels import is_label
from tools.data.pictures import size_of
from tools.data.shape import WORDS, Columns, Form, Row, columns_of, fit, turn_keys

CHAT = ("messages", "turns", "messages as JSON")
TEXT = ("text",)
TALK = (*TEXT, *CHAT)
SAID = (*TALK, "int", "float", "bool")
IMAGE = ("image", "images", "image path", "image paths", "bytes")
ROLES = {*WORDS, "messages"}
BOXES = ("bbox", "bboxes", "boxes", "box")
CATEGORIES = ("category", "category_name", "categories", "label", "labels", "class", "category_id", "class_id")
AREAS = ("area", "areas")
ALONE = ("rated steps", "token ids")  # nothing else should be made of these
CATCH_ALL = ("text", "prompt only")  # what nearly every dataset could also be read as: only if nothing else fits


def recognise(rows: list[Row], given: dict[str, str] | None = None, folder: Path | None = None) -> list[Form]:
    """Every form the rows have, surest first. `given` fixes the column of a role; images lie in `folder`."""
    columns = Columns(columns_of(rows), given or {}, folder)
    check_given(columns)
    found = [form for one in RECOGNISERS if (form := one(columns, rows))]
    answers = {form.columns.get(role) for form in found for role in ("chosen", "rejected")} - {None}
    found = [form for form in found if form.columns.get("completion") not in answers]
    if any(form.name in ALONE for form in found):
        found = [form for form in found if form.name in ALONE]
    if given:
        found = [form for form in found if set(given) <= set(form.columns)] or found
    return sorted(found, key=lambda form: (form.name in CATCH_ALL, -form.confidence))


def check_given(columns: Columns) -> None:
    for role, name in columns.given.items():
        if role not in ROLES:
            raise ToolError(f"mapping: {role!r} is no role. Use: {', '.join(sorted(ROLES))}.")
        if name not in columns.all:
            raise ToolError(f"mapping: there is no column {name!r}. Columns: {', '.join(columns.all) or 'none'}.")


def chat(columns: Columns, rows: list[Row]) -> Form | None:
    told = columns.given.get("messages")
    found = [one for one in columns.of_kind(*CHAT) if told in (None, one.name)]
    others = ("chosen", "rejected", "prompt", "completion")
    apart = [one for one in found if one.name == told or max(fit(one.name, role) for role in others) < 0.8]
    if not apart:
        return None
    usual = ["messages", "conversations", "conversation", "chat", "dialog", "dialogue"]
    place = {one.name: usual.index(one.name.lower()) if one.name.lower() in usual else 9 for one in apart}
    best = min(apart, key=lambda one: place[one.name])
    confidence = {9: 0.9}.get(place[best.name], 0.99 - 0.01 * (place[best.name] > 1))
    image = columns.best("image", IMAGE)[0]
    roles = {"messages": best.name, "system": columns.best("system", TEXT)[0], "image": image}
    roles["tools"] = columns.best("tools", (*TEXT, "objects"))[0]
    if best.kind == "turns":
        keys = keys_of(rows, best.name)
        form = "vision chat" if image else "ShareGPT" if keys == ("from", "value") else "turns"
        return columns.form(form, min(confidence, 0.98), roles, keys=keys)
    calls = any(m.get("tool_calls") for row in rows for m in row.get(best.name) or [] if isinstance(m, dict))
    form = "vision chat" if image else "chat with tool calls" if calls else "chat"
    return columns.form(form, confidence, roles, arguments=argument_kind(rows, best.name) if calls else "")


def argument_kind(rows: list[Row], name: str) -> str:
    """ "object" if a call's arguments are, which an Arrow table cannot keep as they are."""
    for row in rows:
        for message in row.get(name) or []:
            for call in (message.get("tool_calls") or []) if isinstance(message, dict) else []:
                if isinstance((call.get("function") or call).get("arguments"), dict):
                    return "object"
    return "text"


def preference(columns: Columns, rows: list[Row]) -> Form | None:
    chosen, sure = columns.best("chosen", TALK, least=0.68)
    rejected, also = columns.best("rejected", TALK, [chosen], least=0.68)
    if not chosen or not rejected or columns.kind(chosen) != columns.kind(rejected):
        return None
    _, is_anchor = columns.best("anchor", TEXT, [chosen, rejected], least=0.9)
    if is_anchor and sure < 0.85:  # anchor, positive, negative
        return None
    prompt, asked = columns.best("prompt", TALK, [chosen, rejected], least=0.6)
    whole = columns.kind(chosen) in CHAT and holds_prompt(rows, chosen)
    roles = {"chosen": chosen, "rejected": rejected, "prompt": "" if whole else prompt}
    name = "preference" if roles["prompt"] else "preference, implicit prompt"
    system = columns.best("system", TEXT)[0]
    confidence = min(sure, also, asked or 1.0)
    if image := columns.best("image", IMAGE)[0]:
        name, roles = "vision preference", roles | {"image": image}
    return columns.form(name, confidence, roles | {"system": "" if whole else system}, keys=keys_of(rows, chosen))


def keys_of(rows: list[Row], name: str) -> tuple[str, str]:
    values = [row[name] for row in rows if isinstance(row.get(name), list) and row[name]]
    return next((keys for value in values if (keys := turn_keys(value))), ("role", "content"))


def holds_prompt(rows: list[Row], name: str) -> bool:
    """Whether a column of answers begins with what was asked."""
    values = [row[name] for row in rows if row.get(name)]
    who = [str(v[0].get("role") or v[0].get("from") or "").lower() for v in values if isinstance(v, list) and v]
    return bool(who) and sum(one in ("user", "human", "system") for one in who) * 2 > len(who)


def pair(columns: Columns, rows: list[Row]) -> Form | None:
    instruction = next((name for name in columns.all if name.lower() == "instruction"), "")
    if "prompt" not in columns.given and instruction:
        output, sure = columns.best("completion", SAID, [instruction])
        context = columns.best("input", TEXT, [instruction, output], least=0.9)[0]
        if output and columns.kind(instruction) == "text":
            system = columns.best("system", TEXT)[0]
            name = "Alpaca" if context else "instruction and output"
            roles = {"prompt": instruction, "input": context, "completion": output, "system": system}
            return columns.form(name, 0.98 * max(sure, 0.95), roles)
    prompt, asked = columns.best("prompt", TALK)
    completion, sure = columns.best("completion", SAID, [prompt])
    if not prompt or not completion:
        return None
    image = columns.best("image", IMAGE)[0]
    label, labelled = columns.best("label", ("bool", "int", "float"), [prompt, completion], least=0.6)
    two = label and two_values(rows, label)
    if two and (labelled > 0.9 or columns.kind(label) == "bool" or fit(label, "label") >= 0.68):
        confidence = min(asked, sure, max(labelled, 0.8))
        return columns.form(
            "rated completion", confidence, {"prompt": prompt, "completion": completion, "label": label}
        )
    system = columns.best("system", TEXT)[0]
    longer, also = columns.best("completion", TEXT, [prompt, completion], least=0.9)
    if longer and "completion" not in columns.given and columns.all[longer].length > columns.all[completion].length:
        completion, longer, sure = longer, completion, also
    roles = {"prompt": prompt, "completion": completion, "answer": longer, "system": system, "image": image}
    return columns.form("vision question and answer" if image else "prompt and completion", min(asked, sure), roles)


def two_values(rows: list[Row], name: str) -> bool:
    values = {row.get(name) for row in rows} - {None}
    return values <= {0, 1} or values <= {-1, 1}


def boxed(columns: Columns, rows: list[Row]) -> Form | None:
    """Images with boxes and what is in each: as one object of lists, as a list of objects, or as two columns."""
    image, seen = columns.best("image", IMAGE)
    if not image:
        return None
    for column in columns.of_kind("object", "objects"):
        value = next((row[column.name] for row in rows if row.get(column.name)), None)
        one = value[0] if isinstance(value, list) else value
        if keys := box_keys(list(one) if isinstance(one, dict) else []):
            roles = {"image": image, "objects": column.name}
            return columns.form("image and boxes", min(seen, 0.95), roles, **boxes_told(columns, rows, roles, keys))
    if keys := box_keys([column.name for column in columns.of_kind("list", "ints", "texts")]):
        roles = {"image": image, "boxes": keys[0], "categories": keys[1]}
        return columns.form("image and boxes", min(seen, 0.9), roles, **boxes_told(columns, rows, roles, keys))
    return None


def box_keys(names: list[str]) -> tuple[str, str] | None:
    box, kind = (next((name for name in known if name in names), None) for known in (BOXES, CATEGORIES))
    return (box, kind) if box and kind else None


def boxes_told(columns: Columns, rows: list[Row], roles: dict[str, str], keys: tuple[str, str]) -> dict[str, Any]:
    """The keys of box and category, the way boxes are written, and whether the rows tell the size of their pictures."""
    seen: list[tuple[Any, Any, Any]] = []
    for row in rows:
        size = size_told(row, roles["image"], columns.folder)
        objects = row.get(roles["objects"]) if "objects" in roles else row
        if isinstance(objects, list):
            seen += [(one.get(keys[0]), size, area_of(one)) for one in objects if isinstance(one, dict)]
        elif isinstance(objects, dict) and isinstance(objects.get(keys[0]), list):
            areas = area_of(objects)
            areas = areas if isinstance(areas, list) and len(areas) == len(objects[keys[0]]) else None
            seen += [(box, size, areas and areas[at]) for at, box in enumerate(objects[keys[0]])]
    sized = columns.kind("width") == columns.kind("height") == "int"
    return {"keys": keys, "way": way_of(seen), "sized": sized}


def size_told(row: Row, image: str, folder: Path | None) -> tuple[int, int] | None:
    if isinstance(row.get("width"), int) and isinstance(row.get("height"), int):
        return row["width"], row["height"]
    try:
        return size_of(row.get(image), folder or Path("/nowhere"))
    except ValueError:  # the scan tells which row has none
        return None


def area_of(objects: Row) -> Any:
    return next((objects[name] for name in AREAS if name in objects), None)


def labelled(columns: Columns, rows: list[Row]) -> Form | None:
    label, sure = columns.best("label", ("int", "bool", "text", "float"), least=0.7)
    column = columns.all.get(label)
    if not column or not is_label(column, rows):
        return None
    image, seen = columns.best("image", IMAGE)
    if image:
        return columns.form("image and label", min(sure, seen), {"image": image, "label": label})
    text, told = columns.best("text", TEXT, [label])
    if not text:
        others = [one for one in columns.of_kind("text") if one.name != label]
        if len(others) != 1:
            return None
        text, told = others[0].name, 0.7
    return columns.form("text and label", min(sure, told), {"text": text, "label": label})


def tagged(columns: Columns, rows: list[Row]) -> Form | None:
    tokens, sure = columns.best("tokens", ("texts",))
    tags, also = columns.best("tags", ("ints", "texts"), [tokens])
    if not tokens or not tags:
        return None
    return columns.form("tokens and tags", min(sure, also), {"tokens": tokens, "tags": tags})


def similar(columns: Columns, rows: list[Row]) -> Form | None:
    anchor, sure = columns.best("anchor", TEXT, least=0.75)
    positive, also = columns.best("positive", (*TEXT, "texts"), [anchor], least=0.75)
    if not anchor or not positive:
        return None
    negative = columns.best("negative", (*TEXT, "texts"), [anchor, positive], least=0.75)[0]
    score = "" if negative else columns.best("score", ("int", "float", "bool"), [anchor, positive], least=0.75)[0]
    if score and columns.kind(score) == "int" and fit(score, "label") > 0.8 and not two_values(rows, score):
        return None  # classes, such as entailment and contradiction, are no similarity
    if score and columns.all[score].distinct < 2:  # no order to learn: all of them belong together as well
        score = ""
    roles = {"anchor": anchor, "positive": positive, "negative": negative, "score": score}
    return columns.form("sentence pairs" if score else "anchor and positive", min(sure, also), roles)


def plain(columns: Columns, rows: list[Row]) -> Form | None:
    text, sure = columns.best("text", TEXT, least=0.75)
    if not text:
        texts = columns.of_kind("text")
        if len(texts) != 1 or len(columns.all) > 3 or fit(texts[0].name, "prompt") > 0.75:
            return None
        text, sure = texts[0].name, 0.6
    return columns.form("text", sure * 0.9, {"text": text})


def asked_only(columns: Columns, rows: list[Row]) -> Form | None:
    prompt, sure = columns.best("prompt", TALK, least=0.68)
    if not prompt:
        return None
    return columns.form("prompt only", sure * 0.85, {"prompt": prompt, "system": columns.best("system", TEXT)[0]})


def steps(columns: Columns, rows: list[Row]) -> Form | None:
    if {"prompt", "completions", "labels"} <= set(columns.all) and columns.kind("completions") == "texts":
        return columns.form("rated steps", 0.99, {"prompt": "prompt", "completions": "completions", "labels": "labels"})
    return None


def tokenised(columns: Columns, rows: list[Row]) -> Form | None:
    return columns.form("token ids", 0.99, {"ids": "input_ids"}) if columns.kind("input_ids") == "ints" else None


RECOGNISERS: list[Callable[[Columns, Any], Form | None]] = [
    chat,
    steps,
    preference,
    pair,
    boxed,
    labelled,
    tagged,
    similar,
    tokenised,
    plain,
    asked_only,
]
