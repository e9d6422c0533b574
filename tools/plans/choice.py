"""Which method and which adapter: from what was asked, what the data is, and the model's size. Each with a reason."""

import difflib
import re

from tools.context import ToolError
from tools.hardware.models import Model, short
from tools.plan import METHODS, PACKABLE, VISION
from tools.plans.data import Facts

SAME = {
    "fine-tune": "sft",
    "finetune": "sft",
    "instruction": "sft",
    "preference": "dpo",
    "orpo": "dpo",
    "rl": "grpo",
    "reward-model": "reward",
    "distill": "distillation",
    "pretraining": "cpt",
    "continued-pretraining": "cpt",
    "classification": "sequence-classification",
    "text-classification": "sequence-classification",
    "ner": "token-classification",
    "embedding": "embeddings",
    "detection": "object-detection",
    "vlm": "vision-sft",
}
WISHES = {  # the first that a wish speaks of
    "grpo": r"\bgrpo\b|verifiable|reward function|reinforcement",
    "rloo": r"\brloo\b",
    "kto": r"\bkto\b|thumbs",
    "reward": r"reward model",
    "vision-dpo": r"(vision|image).*\bdpo\b|\bdpo\b.*(vision|image)",
    "dpo": r"\bdpo\b|preference|\balign",
    "distillation": r"\bdistil",
    "cpt": r"\bcpt\b|continue[d]? (the )?pre-?train|domain adapt",
    "object-detection": r"detect(ion|s)? .*(object|image|box)|object.detect|bounding box",
    "image-classification": r"image classif|classif\w* (the )?(image|photo|picture)",
    "token-classification": r"\bner\b|named entit|token classif",
    "sequence-classification": r"classif|sentiment",
    "embeddings": r"embedding|semantic search|retriev",
    "vision-sft": r"\bvlm\b|vision.language|about images",
    "sft": r"\bsft\b|instruct|chat|supervised",
}
ADAPTERS = {
    "qlora": r"\bqlora\b|4.?bit",
    "lora": r"\blora\b|adapter",
    "none": r"\bfull\b|all (the )?weights|without (an )?adapter",
}
WORDS = {"none": "none", "full": "none", "lora": "lora", "qlora": "qlora"}
SMALL = 300e6
WHOLE = {*PACKABLE, "sequence-classification", "token-classification", "embeddings"}
ALWAYS_WHOLE = {"image-classification", "object-detection"}
PREFERENCE = ("grpo", "dpo", "kto", "sft", "embeddings", "cpt")  # when several fit equally well


def method_for(asked: str | None, wish: str, facts: Facts) -> tuple[str, str]:
    """The method and why; what the data cannot do is refused with what it can."""
    if asked:
        name = named(asked)
        return fitting(name, "you asked for it", facts)
    for name, words in WISHES.items():
        if re.search(words, wish, re.IGNORECASE):
            return fitting(name, f"the wish speaks of it ({wish.strip()[:60]!r})", facts)
    usable = [one.method for one in facts.verdicts.values() if one.verdict != "incompatible" and one.method in METHODS]
    if facts.best in ("grpo", "distillation") and "dpo" in usable:  # prompts alone are the least that data can be
        return "dpo", why_data(facts, "dpo")
    if facts.best in METHODS:
        return facts.best, why_data(facts, facts.best)
    ready = [name for name in usable if facts.verdicts[name].verdict == "ready"]
    for name in [*(one for one in PREFERENCE if one in ready), *ready, *usable]:
        return name, why_data(facts, name)
    if facts.verdicts:
        reasons = "; ".join(f"{one.method}: {one.reason}" for one in list(facts.verdicts.values())[:4])
        raise ToolError(f"{facts.id!r} fits no training method ({reasons}). Mend it with prepare_dataset.")
    return "sft", "demonstrations are the usual case; nothing is known of the data"


def named(text: str) -> str:
    name = re.sub(r"[\s_]+", "-", text.strip().lower())
    name = SAME.get(name, name)
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ToolError(f"Unknown method {text!r}.{hint} Use one of: {', '.join(METHODS)}.")
    return name


def fitting(name: str, why: str, facts: Facts) -> tuple[str, str]:
    verdict = facts.verdicts.get({"rloo": "grpo"}.get(name, name))
    if verdict and verdict.verdict == "incompatible":
        can = [one.method for one in facts.verdicts.values() if one.verdict != "incompatible"]
        instead = f"It fits: {', '.join(can)}." if can else "Mend it with prepare_dataset."
        raise ToolError(
            f"{facts.id!r} cannot be used for {name}: {verdict.reason.rstrip('.') or 'wrong columns'}. {instead}"
        )
    return name, why


def why_data(facts: Facts, name: str) -> str:
    verdict = facts.verdicts.get(name)
    reason = f": {verdict.reason}" if verdict and verdict.reason else ""
    return f"the data is made for it ({verdict.verdict if verdict else 'ready'}{reason})"


def adapters_for(asked: str | None, wish: str, method: str, model: Model) -> list[tuple[str, str]]:
    """Adapters to try in this order, with reasons; the next one is for machines on which the first does not fit."""
    if asked is not None:
        if asked not in WORDS:
            raise ToolError(f"Unknown adapter {asked!r}. Use one of: none, lora, qlora.")
        return [(WORDS[asked], "you asked for it")]
    for name, words in ADAPTERS.items():
        if re.search(words, wish, re.IGNORECASE):
            return [(name, "the wish says so")]
    if method in ALWAYS_WHOLE:
        return [("none", "image models are small, and their new head needs the whole model to follow")]
    many = short(model.parameters)
    lora = ("lora", f"{many} parameters: an adapter learns as well here with a fraction of the memory")
    if model.parameters < 100e6 or (method in WHOLE and model.parameters < SMALL):
        return [("none", f"only {many} parameters: training all of them is cheap and learns most"), lora]
    if method == "cpt":
        whole = ("none", "new knowledge goes deeper than an adapter reaches")
        return [whole, lora, qlora(model)]
    if method in VISION:
        return [lora]
    return [lora, qlora(model)]


def qlora(model: Model) -> tuple[str, str]:
    return "qlora", f"{short(model.parameters)} parameters fit the wanted machines only in 4 bits"
