"""Per training method: ready, needs mapping, or incompatible, with the reason, a confidence and the mapping as code.

`ready` means that the program changes nothing of the first rows: the trainer reads the data as it is. Whether the
content is good enough to train on is no question of form and is not answered here.
"""

from dataclasses import dataclass, field

from tools.context import ToolError
from tools.data.boxes import WAYS
from tools.data.labels import like_a_label
from tools.data.mapping import PROGRAMS, compiled, group, program
from tools.data.shape import Form, Row

NEEDS = {
    "sft": "conversations, prompts with completions, or text",
    "dpo": "a chosen and a rejected answer",
    "grpo": "prompts (a known answer beside them helps the reward)",
    "kto": "completions rated good or bad, or preference pairs",
    "reward": "a chosen and a rejected answer",
    "distillation": "prompts",
    "cpt": "plain text",
    "classification": "a text and a label of few values",
    "token_classification": "lists of tokens and tags of equal length",
    "embeddings": "pairs of texts that belong together, or pairs with a score",
    "image_classification": "an image and a label",
    "vision_sft": "images with a conversation or with question and answer",
    "vision_dpo": "images with a prompt, a chosen and a rejected answer",
    "object_detection": "images with boxes (x, y, width, height) and their categories",
}
NAMES = {"fine-tune": "sft", "instruction": "sft", "orpo": "dpo", "preference": "dpo", "rlhf": "dpo", "rloo": "grpo"}
NAMES |= {"reward-model": "reward", "distill": "distillation", "gkd": "distillation", "pretraining": "cpt"}
NAMES |= {
    "continued-pretraining": "cpt",
    "sequence-classification": "classification",
    "text-classification": "classification",
}
NAMES |= {
    "ner": "token_classification",
    "embedding": "embeddings",
    "vision": "vision_sft",
    "vlm": "vision_sft",
    "detection": "object_detection",
}
# What a form is made for comes first.
BEST = {
    "dialog": "sft",
    "pair": "sft",
    "preference": "dpo",
    "rated completion": "kto",
    "text": "cpt",
    "prompt only": "grpo",
}
BEST |= {
    "text and label": "classification",
    "tokens and tags": "token_classification",
    "image and label": "image_classification",
}
BEST |= {"anchor and positive": "embeddings", "sentence pairs": "embeddings"}
BEST |= {"image and boxes": "object_detection", "vision preference": "vision_dpo"}
BEST |= {"vision chat": "vision_sft", "vision question and answer": "vision_sft"}
LESS = {("preference", "sft"): 0.9, ("text and label", "cpt"): 0.6, ("dialog", "cpt"): 0.7, ("pair", "cpt"): 0.7}
LESS |= {("text", "sft"): 0.6, ("prompt only", "grpo"): 0.7, ("prompt only", "distillation"): 0.7}
LESS |= {("pair", "embeddings"): 0.75, ("preference", "grpo"): 0.8, ("dialog", "grpo"): 0.8}
CONFUSING = {"prompt", "completion", "messages"}  # SFT looks at these names in this order, whatever else is there


@dataclass
class Verdict:
    method: str
    verdict: str  # ready, needs mapping, incompatible
    reason: str
    confidence: float = 0.0
    form: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    mapping: str | None = None


def method_name(text: str) -> str:
    name = text.strip().lower().replace(" ", "-")
    name = NAMES.get(name, NAMES.get(name.replace("_", "-"), name.replace("-", "_")))
    if name not in PROGRAMS:
        raise ToolError(f"Unknown method {text!r}. Use one of: {', '.join(PROGRAMS)}.")
    return name


def best_method(forms: list[Form]) -> str | None:
    return next((BEST[group(form)] for form in forms if group(form) in BEST), None)


def form_for(method: str, forms: list[Form]) -> Form | None:
    fitting = [form for form in forms if program(form, method)]
    return max(fitting, key=lambda form: form.confidence * LESS.get((group(form), method), 1.0), default=None)


def judge(method: str, forms: list[Form], rows: list[Row]) -> Verdict:
    form = form_for(method, forms)
    if form is None:
        return refused(method, why_not(method, forms, rows))
    code = program(form, method)
    assert code
    confidence = round(form.confidence * LESS.get((group(form), method), 1.0), 2)
    columns = dict(form.columns)
    extra = " Only the chosen answers are used." if method == "sft" and group(form) == "preference" else ""
    extra = f" Its boxes are {WAYS[form.details['way']][0]}." if form.name == "image and boxes" else extra
    extra = " What counts is the order of the scores, not their scale." if form.name == "sentence pairs" else extra
    why = unlike(code, rows, method)
    if why is None:
        return Verdict(method, "ready", f"Has the form of {form.name}.{extra}", confidence, form.name, columns, code)
    shown = ", ".join(f"{role} from {column!r}" for role, column in columns.items())
    reason = f"Has the form of {form.name} ({shown}): {why}.{extra}"
    return Verdict(method, "needs mapping", reason, confidence, form.name, columns, code)


def refused(method: str, reason: str) -> Verdict:
    return Verdict(method, "incompatible", reason)


def unlike(code: str, rows: list[Row], method: str) -> str | None:
    """What the trainer would stumble over without the program; None: nothing."""
    to_rows, seen = compiled(code), 0
    for row in rows:
        try:
            made = to_rows(row)
        except Exception:  # a faulty row; the scan tells which
            continue
        if len(made) != 1:
            return "one row becomes several or none"
        seen += 1
        for name, value in made[0].items():
            if name not in row:
                return f"the trainer expects a column {name!r}"
            if row[name] != value or isinstance(row[name], bool) != isinstance(value, bool):
                return f"{name!r} must be converted"
        others = (CONFUSING & set(row)) - set(made[0])
        if method == "sft" and others:
            return f"the column {min(others)!r} would be taken instead"
    return None if seen else "the first rows do not hold it everywhere"


def why_not(method: str, forms: list[Form], rows: list[Row]) -> str:
    if method in ("classification", "image_classification") and (crowded := like_a_label(rows)):
        return f"Needs {NEEDS[method]}; {crowded}"
    if not forms:
        names = ", ".join(list(rows[0])[:12]) if rows else "none"
        return f"Needs {NEEDS[method]}; the columns ({names}) tell nothing of the kind."
    best = forms[0]
    reason = f"Needs {NEEDS[method]}; this is {best.name}."
    if best.name == "rated steps":
        return f"{reason} Rated steps train a process reward model, which no method here does."
    if best.name == "token ids":
        return f"{reason} Audit the text it was made from."
    if method == "object_detection" and best.name == "image and boxes":
        return (
            f"Its boxes are {WAYS[best.details['way']][0]}, and nothing tells its size. "
            "Add the columns `width` and `height`, in pixels."
        )
    if method == "dpo" and best.name == "rated completion":
        return f"{reason} Use kto, which needs no pairs."
    if method in ("sft", "dpo") and best.name.startswith("vision"):
        return f"{reason} Use {BEST[best.name]}."
    return reason
