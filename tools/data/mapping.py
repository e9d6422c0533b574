"""From a form to what a method trains on, as the text of a small Python program with `to_rows(row)`.

The program is written here from fixed pieces; of the data only column names get into it, quoted. So it can
be run on this machine, kept in a manifest, and edited by whoever wants more. One row gives none, one or several rows.
"""

from collections.abc import Callable
from typing import Any

from tools.data.shape import Form

ROLES = {"human": "user", "user": "user", "prompter": "user", "gpt": "assistant", "assistant": "assistant"}
ROLES |= {"bot": "assistant", "chatgpt": "assistant", "model": "assistant", "ai": "assistant", "system": "system"}
ROLES |= {"tool": "tool", "function": "tool", "observation": "tool"}
DIALOGS = {"chat", "chat with tool calls", "ShareGPT", "turns"}
PAIRS = {"prompt and completion", "Alpaca", "instruction and output"}
PREFERENCES = {"preference", "preference, implicit prompt"}
VISION = {"vision chat", "vision question and answer"}

Lines = list[str]


def group(form: Form) -> str:
    for name, members in (("dialog", DIALOGS), ("pair", PAIRS), ("preference", PREFERENCES)):
        if form.name in members:
            return name
    return form.name


class Writer:
    """Writes the expressions that read one form."""

    def __init__(self, form: Form):
        self.form, self.imports, self.helpers = form, False, False

    def column(self, role: str) -> str:
        return f"row[{self.form.columns[role]!r}]"

    def name(self, role: str) -> str:
        return self.form.columns.get(role, "")

    def kind(self, role: str) -> str:
        return self.form.kinds.get(role, "")

    def value(self, role: str) -> str:
        """The column as text or as messages."""
        kind, column = self.kind(role), self.column(role)
        if kind == "turns":
            self.helpers = True
            return f"chat({column})"
        if kind == "messages as JSON":
            self.imports = True
            return f"json.loads({column})"
        if kind in ("int", "float", "bool"):
            return f"str({column})"
        return column

    def asked(self) -> str:
        """The prompt as messages."""
        system = self.name("system")
        text = self.value("prompt")
        if self.kind("prompt") != "text":
            return text
        if self.name("input"):
            text = f'"\\n\\n".join(filter(None, [{text}, row.get({self.name("input")!r})]))'
        user = f'{{"role": "user", "content": {text}}}'
        if not system:
            return f"[{user}]"
        return f'[*([{{"role": "system", "content": row[{system!r}]}}] if row.get({system!r}) else []), {user}]'

    def said(self, role: str) -> str:
        """An answer as messages."""
        value = self.value(role)
        if self.kind(role) in ("text", "int", "float", "bool"):
            return f'[{{"role": "assistant", "content": {value}}}]'
        return value

    def messages(self) -> Lines:
        lines = [f"messages = {self.value('messages')}"]
        if system := self.name("system"):
            lines += [
                f"if row.get({system!r}):",
                f'    messages = [{{"role": "system", "content": row[{system!r}]}}, *messages]',
            ]
        if self.form.details.get("arguments") == "object":  # a table would fill up such objects with nulls
            self.imports = True
            lines += [
                "messages = json.loads(json.dumps(messages))",
                'for call in [call for one in messages for call in one.get("tool_calls") or []]:',
                '    function = call.get("function") or call',
                '    if not isinstance(function.get("arguments"), str):',
                '        function["arguments"] = json.dumps(function.get("arguments"))',
            ]
        if self.kind("tools") == "objects":
            self.imports = True
        return lines

    def tools(self) -> str:
        if not self.name("tools"):
            return ""
        if self.kind("tools") == "objects":
            return f', "tools": json.dumps(row.get({self.name("tools")!r}) or [])'
        return f', "tools": row.get({self.name("tools")!r})'

    def program(self, body: Lines, constants: Lines = ()) -> str:  # type: ignore[assignment]
        lines = ["import json", ""] if self.imports else []
        lines += list(constants)
        if self.helpers:
            who, what = self.form.details["keys"]
            lines += [f"ROLES = {ROLES!r}", "", "", "def chat(turns):"]
            role = f"ROLES.get(turn[{who!r}].lower(), turn[{who!r}])"
            lines += [f'    return [{{"role": {role}, "content": turn[{what!r}]}} for turn in turns]']
        if lines:
            lines += ["", ""]
        lines += ["def to_rows(row):", *(f"    {line}" for line in body)]
        return "\n".join(lines) + "\n"


def alike(w: Writer, roles: dict[str, str]) -> bool:
    """Columns that already have the usual names and agree in kind stay as they are."""
    kinds = {w.kind(role) for role in roles if w.name(role)}
    return all(w.name(role) in ("", usual) for role, usual in roles.items()) and kinds in ({"text"}, {"messages"})


def sft(w: Writer) -> str | None:
    match group(w.form):
        case "dialog":
            body = [*w.messages(), f'return [{{"messages": messages{w.tools()}}}]']
            return w.program(body)
        case "pair":
            if (
                alike(w, {"prompt": "prompt", "completion": "completion"})
                and not w.name("input")
                and not w.name("system")
            ):
                return w.program(['return [{"prompt": row["prompt"], "completion": row["completion"]}]'])
            return w.program([f'return [{{"prompt": {w.asked()}, "completion": {w.said("completion")}}}]'])
        case "preference":
            if w.name("prompt"):
                return w.program([f'return [{{"prompt": {w.asked()}, "completion": {w.said("chosen")}}}]'])
            if w.kind("chosen") == "text":
                return w.program([f'return [{{"text": {w.value("chosen")}}}]'])
            return w.program([f'return [{{"messages": {w.value("chosen")}}}]'])
        case "rated completion":
            body = [f"if not {good(w)}:", "    return []"]
            return w.program([*body, f'return [{{"prompt": {w.asked()}, "completion": {w.said("completion")}}}]'])
        case "text":
            return w.program([f'return [{{"text": {w.value("text")}}}]'])
    return None


def good(w: Writer) -> str:
    return w.column("label") if w.kind("label") == "bool" else f"({w.column('label')} > 0)"


def preference(w: Writer) -> str | None:
    if group(w.form) != "preference":
        return None
    chosen, rejected = w.value("chosen"), w.value("rejected")
    if not w.name("prompt"):
        return w.program([f'return [{{"chosen": {chosen}, "rejected": {rejected}}}]'])
    if alike(w, {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}) and not w.name("system"):
        prompt = w.column("prompt")
    else:
        prompt, chosen, rejected = w.asked(), w.said("chosen"), w.said("rejected")
    return w.program([f'return [{{"prompt": {prompt}, "chosen": {chosen}, "rejected": {rejected}}}]'])


def kto(w: Writer) -> str | None:
    if w.form.name != "rated completion":
        return preference(w)
    if alike(w, {"prompt": "prompt", "completion": "completion"}):
        prompt, completion = w.column("prompt"), w.column("completion")
    else:
        prompt, completion = w.asked(), w.said("completion")
    return w.program([f'return [{{"prompt": {prompt}, "completion": {completion}, "label": {good(w)}}}]'])


def prompts(w: Writer) -> str | None:
    """For methods that let the model answer; the known answer comes along for the reward."""
    match group(w.form):
        case "dialog":
            body = [
                *w.messages(),
                'while messages and messages[-1]["role"] != "assistant":',
                "    messages = messages[:-1]",
            ]
            body += ['return [{"prompt": messages[:-1], "answer": messages[-1]["content"]}]']
            return w.program(body)
        case "pair" if w.name("answer"):
            return w.program([f'return [{{"prompt": {w.asked()}, "answer": {w.value("answer")}}}]'])
        case "pair" | "rated completion":
            answer = (
                w.value("completion")
                if w.kind("completion") != "messages"
                else f'{w.column("completion")}[-1]["content"]'
            )
            return w.program([f'return [{{"prompt": {w.asked()}, "answer": {answer}}}]'])
        case "preference" if w.name("prompt"):
            return w.program([f'return [{{"prompt": {w.asked()}}}]'])
        case "preference" if w.kind("chosen") != "text":
            return w.program([f'return [{{"prompt": {w.value("chosen")}[:-1]}}]'])
        case "prompt only":
            prompt = w.column("prompt") if w.name("prompt") == "prompt" and not w.name("system") else w.asked()
            return w.program([f'return [{{**row, "prompt": {prompt}}}]'])
    return None


def cpt(w: Writer) -> str | None:
    match group(w.form):
        case "text" | "text and label":
            return w.program([f'return [{{"text": {w.value("text")}}}]'])
        case "dialog":
            told = '"\\n\\n".join(one["content"] for one in messages if one.get("content"))'
            return w.program([*w.messages(), f'return [{{"text": {told}}}]'])
        case "pair" if w.kind("prompt") == "text" and w.kind("completion") not in (
            "messages",
            "turns",
            "messages as JSON",
        ):
            text = f'"\\n\\n".join(filter(None, [{w.value("prompt")}, {w.value("completion")}]))'
            if w.name("input"):
                inner = f"row.get({w.name('input')!r})"
                text = f'"\\n\\n".join(filter(None, [{w.value("prompt")}, {inner}, {w.value("completion")}]))'
            return w.program([f'return [{{"text": {text}}}]'])
    return None


def classification(w: Writer) -> str | None:
    """Labels keep their names: the script numbers them, and its model knows them by name."""
    if w.form.name != "text and label":
        return None
    return w.program([f'return [{{"text": {w.value("text")}, "label": {label(w)}}}]'])


def label(w: Writer) -> str:
    return f"int({w.column('label')})" if w.kind("label") in ("bool", "float") else w.column("label")


def token_classification(w: Writer) -> str | None:
    if w.form.name != "tokens and tags":
        return None
    return w.program([f'return [{{"tokens": {w.column("tokens")}, "tags": {w.column("tags")}}}]'])


def embeddings(w: Writer) -> str | None:
    if w.form.name == "sentence pairs":
        texts = f'"sentence1": {w.column("anchor")}, "sentence2": {w.column("positive")}'
        return w.program([f'return [{{{texts}, "score": float({w.column("score")})}}]'])
    if group(w.form) == "pair" and {w.kind("prompt"), w.kind("completion")} == {"text"}:
        return w.program([f'return [{{"anchor": {w.value("prompt")}, "positive": {w.value("completion")}}}]'])
    if w.form.name != "anchor and positive":
        return None
    rows = f'"anchor": {w.column("anchor")}, "positive": {{positive}}'
    positive, loops = w.column("positive"), ""
    if w.kind("positive") == "texts":
        positive, loops = "positive", f" for positive in {w.column('positive')}"
    if w.name("negative"):
        negative = w.column("negative")
        if w.kind("negative") == "texts":
            negative, loops = "negative", f"{loops} for negative in {w.column('negative')}"
        rows += f', "negative": {negative}'
    return w.program([f"return [{{{rows.format(positive=positive)}}}{loops}]"])


def image_classification(w: Writer) -> str | None:
    if w.form.name != "image and label":
        return None
    return w.program([f'return [{{"image": {w.column("image")}, "label": {label(w)}}}]'])


def pictures(w: Writer) -> str:
    """The images of a row as a list, which is what the trainers of vision models take."""
    many = w.kind("image") in ("images", "image paths")
    return w.column("image") if many else f"[{w.column('image')}]"


def vision_sft(w: Writer) -> str | None:
    if w.form.name not in VISION:
        return None
    if w.form.name == "vision chat":
        return w.program([*w.messages(), f'return [{{"images": {pictures(w)}, "messages": messages}}]'])
    said = f'"prompt": {w.asked()}, "completion": {w.said("completion")}'
    return w.program([f'return [{{"images": {pictures(w)}, {said}}}]'])


TO_PIXELS = {
    "xyxy": "[[left, top, right - left, bottom - top] for left, top, right, bottom in {boxes}]",
    "centre shares": "[[(x - w / 2) * wide, (y - h / 2) * high, w * wide, h * high] for x, y, w, h in {boxes}]",
    "xywh shares": "[[x * wide, y * high, w * wide, h * high] for x, y, w, h in {boxes}]",
    "xyxy shares": "[[x * wide, y * high, (right - x) * wide, (end - y) * high] for x, y, right, end in {boxes}]",
}


def object_detection(w: Writer) -> str | None:
    """Boxes become [x, y, width, height] in pixels."""
    if w.form.name != "image and boxes":
        return None
    keys, way = w.form.details["keys"], w.form.details["way"]
    if w.name("objects"):
        objects = w.column("objects")
        listed = w.kind("objects") == "objects"
        boxes, kinds = (f"[one[{key!r}] for one in {objects}]" if listed else f"{objects}[{key!r}]" for key in keys)
    else:
        boxes, kinds = w.column("boxes"), w.column("categories")
    lines = []
    if way.endswith("shares"):
        if not w.form.details["sized"]:
            return None
        lines = ['wide, high = row["width"], row["height"]']
    boxes = TO_PIXELS.get(way, "{boxes}").format(boxes=boxes)
    made = f'{{"bbox": {boxes}, "category": {kinds}}}'
    return w.program([*lines, f'return [{{"image": {w.column("image")}, "objects": {made}}}]'])


def vision_dpo(w: Writer) -> str | None:
    if w.form.name != "vision preference" or not w.name("prompt"):
        return None
    answers = f'"chosen": {w.said("chosen")}, "rejected": {w.said("rejected")}'
    return w.program([f'return [{{"images": {pictures(w)}, "prompt": {w.asked()}, {answers}}}]'])


PROGRAMS: dict[str, Callable[[Writer], str | None]] = {
    "sft": sft,
    "dpo": preference,
    "grpo": prompts,
    "kto": kto,
    "reward": preference,
    "distillation": prompts,
    "cpt": cpt,
    "classification": classification,
    "token_classification": token_classification,
    "embeddings": embeddings,
    "image_classification": image_classification,
    "vision_sft": vision_sft,
    "vision_dpo": vision_dpo,
    "object_detection": object_detection,
}
LABELLED = {"classification", "token_classification", "image_classification"}
PICTURES = {"image_classification", "object_detection", "vision_sft", "vision_dpo"}


def program(form: Form, method: str) -> str | None:
    """The code, or None if this form does not hold what the method needs."""
    return PROGRAMS[method](Writer(form))


def compiled(code: str) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    names: dict[str, Any] = {}
    exec(compile(code, "<mapping>", "exec"), names)  # written above; only quoted names come from outside
    return names["to_rows"]
