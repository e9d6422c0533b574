"""The hyper-parameters before a machine is chosen, each with its reason, from method, model and data."""

from dataclasses import dataclass, field
from math import ceil
from typing import Any

from tools.hardware.models import Model, short
from tools.plan import PACKABLE, SAMPLING, VISION, Reason
from tools.plans.data import Facts

# learning rates: all weights, adapter
RATES = {
    "sft": (2e-5, 2e-4),
    "cpt": (1e-5, 1e-4),
    "dpo": (5e-7, 5e-6),
    "kto": (1e-6, 5e-6),
    "grpo": (1e-6, 1e-5),
    "rloo": (1e-6, 1e-5),
    "distillation": (1e-6, 1e-5),
    "reward": (1e-5, 1e-4),
    "sequence-classification": (2e-5, 2e-4),
    "token-classification": (3e-5, 2e-4),
    "embeddings": (2e-5, 1e-4),
    "image-classification": (5e-5, 2e-4),
    "object-detection": (5e-5, 2e-4),
    "vision-sft": (1e-5, 1e-4),
    "vision-dpo": (5e-7, 5e-6),
}
STEP_ROWS = {"dpo": 32, "kto": 32, "reward": 32, "embeddings": 64, "object-detection": 16, "vision-sft": 16}
STEP_ROWS |= {"sequence-classification": 32, "token-classification": 32, "image-classification": 32, "vision-dpo": 16}
# what the method's script measures before and after; sft's takes exact match instead where answers are short
METRICS = {
    "sequence-classification": "accuracy",
    "token-classification": "accuracy",
    "image-classification": "accuracy",
}
METRICS |= {"object-detection": "recall", "embeddings": "recall_at_1", "dpo": "preference_accuracy"}
METRICS |= {"vision-dpo": "preference_accuracy", "kto": "signed_log_probability", "reward": "accuracy"}
METRICS |= {"grpo": "reward", "rloo": "reward"}
LENGTHS = (128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 65536, 131072)
TINY = 100e6
LEAST_STEPS = 50
# by device: answers to one prompt, prompts in a step, tokens of an answer; a CPU makes tens of tokens a second
ANSWERS = {"cuda": (8, 8, 512), "cpu": (4, 4, 128)}
IMAGE_TOKENS = 1024


@dataclass
class Draft:
    """Values by TRL's names, and why each is what it is. A pinned value is the person's."""

    pinned: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)

    def put(self, name: str, value: Any, why: str) -> Any:
        if name in self.pinned:
            value, why = self.pinned[name], "you set it"
        self.values[name] = value
        self.reasons.append(Reason(what=name, value=shown(value), why=why))
        return value


@dataclass(frozen=True)
class Amount:
    """What the run will see: rows as they go through the model, packed or not."""

    rows: int  # of one epoch
    length: int  # the longest row, which memory must hold
    mean: int
    per_step: int


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def draft(
    method: str, adapter: str, model: Model, facts: Facts, pinned: dict[str, Any], device: str
) -> tuple[Draft, Amount]:
    """For machines of that device, "cpu" or "cuda"."""
    made = Draft(pinned)
    length = row_length(made, method, model, facts, device)
    amount = packed(made, method, facts, length, device)
    epochs = made.put("num_train_epochs", *epochs_for(method, facts.rows))
    if (batch := pinned.get("per_device_train_batch_size")) and method not in SAMPLING:
        per_step, why = batch * pinned.get("gradient_accumulation_steps", 1), "you set the batch"
    else:
        per_step, why = step_rows(method, amount, epochs, made.values.get("num_generations"), device)
    amount = Amount(amount.rows, amount.length, amount.mean, per_step)
    made.reasons.append(Reason(what="rows per step", value=str(per_step), why=why))
    made.put("learning_rate", *rate(method, adapter, model))
    made.put("lr_scheduler_type", *scheduler(method))
    made.put(
        "warmup_steps", 0.1 if method != "cpt" else 0.03, "a share of all steps, so that the first ones are gentle"
    )
    decay = (0.01, "keeps all weights from growing") if adapter == "none" else (0.0, "an adapter is small already")
    made.put("weight_decay", *decay)
    made.put("max_grad_norm", 1.0 if method not in SAMPLING else 0.2, "one bad batch must not throw the model off")
    if method in ("dpo", "kto", "vision-dpo"):
        made.put("beta", 0.1, "the usual pull towards the model it starts from")
    if method == "grpo":
        made.put("beta", 0.0, "no reference model in memory; clipping already keeps the steps small")
    if method == "rloo":
        made.put("beta", 0.05, "TRL's pull towards the model it starts from")
    return made, amount


def row_length(made: Draft, method: str, model: Model, facts: Facts, device: str) -> int:
    """Tokens a row may have, and therefore what memory must hold."""
    if method in ("image-classification", "object-detection"):
        made.put(
            "image_size", 224 if method == "image-classification" else 640, "the size such models are trained with"
        )
        made.values["max_length"] = None
        return 200 if method == "image-classification" else 1600
    most = min(model.context or LENGTHS[-1], LENGTHS[-1])
    if method in SAMPLING or method == "distillation":
        answers, _, tokens = ANSWERS[device]
        why = (
            "room for reasoning; longer is slower" if device == "cuda" else "a CPU writes slowly; reasoning needs more"
        )
        completion = made.put("max_completion_length", min(tokens, most // 2), why)
        if method in SAMPLING:
            why = "answers compared per prompt; fewer give a noisy advantage"
            why = why if device == "cuda" else "answers compared per prompt; more would be steadier, and slow on a CPU"
            made.put("num_generations", answers, why)
            made.put("temperature", 1.0, "answers to one prompt must differ")
        return min(most, next(one for one in LENGTHS if one >= min(facts.long, LENGTHS[-1])) + completion)
    fitting = next((one for one in LENGTHS if one >= facts.long), LENGTHS[-1])
    if method in VISION:
        made.values["max_length"] = None
        made.reasons.append(Reason(what="max_length", value="None", why="cutting would cut through an image's tokens"))
        return min(most, fitting + IMAGE_TOKENS)
    cut = "nothing is cut" if min(fitting, most) >= facts.longest else f"the longest row has {facts.longest:,} tokens"
    why = f"all but a few rows have at most {facts.long:,} tokens; {cut}"
    return made.put("max_length", min(fitting, most), why)


def packed(made: Draft, method: str, facts: Facts, length: int, device: str) -> Amount:
    """Short rows are put together where that saves padding and enough packs are left to learn from.

    Where rows are not packed, those of a step that are alike in length go through together.
    """
    mean = min(facts.mean, length)
    plain = Amount(facts.rows, length, mean, 0)
    if method in SAMPLING or method == "distillation":
        return Amount(facts.rows, length, min(length, facts.mean + made.values["max_completion_length"]), 0)
    if method not in PACKABLE:
        return plain
    packs = ceil(facts.rows * mean / length)
    if method == "cpt":
        wanted, why = True, "text has no end of its own; every token counts"
    elif device == "cpu":
        wanted, why = False, "a CPU computes attention over whole packs; rows of like length go together instead"
    elif packs < 200:
        wanted, why = False, f"packing would leave only {packs} rows to learn from"
    else:
        wanted = facts.typical * 2 <= length
        why = f"the middle row has {facts.typical:,} of {length:,} tokens" + (
            "; packing saves padding" if wanted else ""
        )
    if not made.put("packing", wanted, why):
        return plain
    return Amount(packs, length, length, 0)


def epochs_for(method: str, rows: int) -> tuple[float, str]:
    if method == "object-detection":
        return 30.0, "boxes are learned slowly"
    if method in ("image-classification", "sequence-classification", "token-classification"):
        return (5.0, "few rows") if rows < 5_000 else (3.0, "enough rows to need no more")
    if method in ("dpo", "kto", "vision-dpo", "reward", "grpo", "rloo", "distillation"):
        return (
            (2.0, f"only {rows:,} rows") if rows < 500 else (1.0, "more passes overfit to the preferences or rewards")
        )
    if method == "cpt":
        return 1.0, "text is seen once"
    if rows <= 2_000:
        return 3.0, f"only {rows:,} rows: three passes"
    return (2.0, f"{rows:,} rows: two passes") if rows <= 50_000 else (1.0, f"{rows:,} rows: one pass is enough")


def step_rows(method: str, amount: Amount, epochs: float, answers: int | None, device: str) -> tuple[int, str]:
    """Rows that make one optimizer step, over all devices and accumulation."""
    if method in SAMPLING and answers:
        prompts = ANSWERS[device][1]
        return prompts * answers, f"{prompts} prompts with {answers} answers each"
    if method in STEP_ROWS:
        wanted, why = STEP_ROWS[method], "usual for the method"
    else:
        target = 65_536 if method == "cpt" else 16_384
        wanted = power(target / max(1, amount.mean), 8, 64)
        why = f"about {target:,} tokens a step with {amount.mean:,} per row"
    most = power(amount.rows * epochs / LEAST_STEPS, 2, wanted)
    if most < wanted:
        return most, f"so that {amount.rows:,} rows still make about {LEAST_STEPS} steps"
    return wanted, why


def power(value: float, least: int, most: int) -> int:
    """The power of two below, within bounds."""
    return max(least, min(most, 1 << max(0, int(value).bit_length() - 1)))


def rate(method: str, adapter: str, model: Model) -> tuple[float, str]:
    whole, with_adapter = RATES[method]
    if adapter != "none":
        return with_adapter, f"usual for {method} with an adapter; all weights take about a tenth"
    if model.parameters < TINY:
        return (
            float(f"{whole * 10:g}"),
            f"ten times the usual {whole:g}: with {short(model.parameters)} parameters less does not move",
        )
    return whole, f"usual for {method} with all weights"


def scheduler(method: str) -> tuple[str, str]:
    if method in SAMPLING:
        return "constant_with_warmup", "rewards have no end to anneal towards"
    return "cosine", "fast at first, settling at the end"


def lora_rank(method: str, rows: int) -> tuple[int, str]:
    if method in ("cpt",) or rows > 50_000:
        return 32, "much to learn"
    if rows < 500:
        return 8, f"only {rows:,} rows: a small adapter overfits less"
    return 16, "enough for most tasks; more rarely helps"
