"""The plan of one training run: everything a script needs, strictly checked, as JSON on disk.

Hyper-parameters carry the names TRL and transformers give them, so that a script takes them over as they are. The plan
says what will be done; whether the data and the machine allow it is found out by whoever makes it.
"""

import difflib
import json
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tools.context import ToolError

Method = Literal[
    "sft",
    "dpo",
    "grpo",
    "kto",
    "reward",
    "rloo",
    "distillation",
    "cpt",
    "sequence-classification",
    "token-classification",
    "embeddings",
    "image-classification",
    "object-detection",
    "vision-sft",
    "vision-dpo",
]
METHODS: tuple[str, ...] = get_args(Method)
PACKABLE = {"sft", "cpt"}
SAMPLING = {"grpo", "rloo"}
VISION = {"image-classification", "object-detection", "vision-sft", "vision-dpo"}
TASK_TYPES = {"reward": "SEQ_CLS", "sequence-classification": "SEQ_CLS", "token-classification": "TOKEN_CLS"}


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class BaseModelChoice(Part):
    id: str = Field(min_length=1)
    revision: str | None = None
    parameters: int = Field(gt=0)
    source: str = ""  # where the number of parameters comes from
    teacher: str | None = None  # distillation only


class Data(Part):
    id: str  # a Hub id or a path; empty when only hardware was asked for
    config: str | None = None
    split: str = "train"
    fingerprint: str | None = None
    rows: int | None = Field(default=None, ge=0)
    mapping: str | None = None  # Python code that brings a row into the method's columns; None: it fits as it is


class Adapter(Part):
    kind: Literal["none", "lora", "qlora"] = "none"
    r: int | None = Field(default=None, ge=1, le=1024)
    alpha: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"
    task_type: Literal["CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS", "FEATURE_EXTRACTION"] | None = None
    modules_to_save: list[str] | None = None

    @model_validator(mode="after")
    def ranked(self) -> "Adapter":
        if self.kind != "none" and (self.r is None or self.alpha is None):
            raise ValueError(f"a {self.kind} adapter needs r and alpha")
        return self


class Hyper(Part):
    """`dtype` and `attn_implementation` are for loading the model; packing and assistant_only_loss are SFT's alone."""

    learning_rate: float = Field(gt=0, le=1)
    num_train_epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)  # wins over epochs
    per_device_train_batch_size: int = Field(ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    warmup_steps: float = Field(default=0.1, ge=0)  # below 1: a share of all steps
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    optim: Literal["adamw_torch_fused", "adamw_torch", "paged_adamw_8bit", "adafactor"] = "adamw_torch_fused"
    max_length: int | None = Field(default=None, ge=8)
    packing: bool = False
    assistant_only_loss: bool = False
    gradient_checkpointing: bool = False
    bf16: bool = False
    fp16: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    beta: float | None = Field(default=None, ge=0)
    num_generations: int | None = Field(default=None, ge=2)
    max_completion_length: int | None = Field(default=None, ge=1)
    steps_per_generation: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, gt=0)
    image_size: int | None = Field(default=None, ge=16)
    logging_steps: int = Field(default=10, ge=1)
    eval_steps: int | None = Field(default=None, ge=1)
    save_steps: int | None = Field(default=None, ge=1)


class Hardware(Part):
    where: Literal["local", "hf-jobs"]
    name: str
    device: Literal["cpu", "cuda"]
    gpu: str | None = None
    gpus: int = Field(default=0, ge=0)
    spread: Literal["none", "ddp", "fsdp"] = "none"
    usd_per_hour: float | None = Field(default=None, ge=0)


class Limits(Part):
    minutes: int = Field(gt=0)
    usd: float | None = Field(default=None, ge=0)  # None: nothing is known of the price


class Outputs(Part):
    folder: str = ""  # empty: the run's own folder
    push_to: str | None = None
    report: bool = True


class Evaluation(Part):
    split: str | None = None  # a split of the dataset; None: `share` of the training rows is held out
    share: float | None = Field(default=None, gt=0, lt=1)
    metric: str = "loss"


class Estimate(Part):
    memory_gb: float = Field(gt=0)
    memory: dict[str, float] = {}
    minutes: tuple[float, float] | None = None
    usd: tuple[float, float] | None = None
    assumed: str = ""


class Reason(Part):
    what: str
    value: str
    why: str


class TrainingPlan(Part):
    version: Literal[1] = 1
    method: Method
    model: BaseModelChoice
    dataset: Data
    adapter: Adapter
    hyper: Hyper
    seed: int = Field(default=42, ge=0)
    hardware: Hardware
    limits: Limits
    outputs: Outputs = Outputs()
    eval: Evaluation = Evaluation()
    estimate: Estimate | None = None
    reasons: list[Reason] = []

    @model_validator(mode="after")
    def coherent(self) -> "TrainingPlan":
        problem = next(contradictions(self), None)
        if problem:
            raise ValueError(problem)
        return self


def contradictions(plan: TrainingPlan) -> Any:
    """What each part allows and the whole does not."""
    hyper, devices = plan.hyper, max(1, plan.hardware.gpus)
    if plan.adapter.kind == "qlora" and plan.hardware.device == "cpu":
        yield "qlora needs an NVIDIA GPU; on a CPU use the adapter lora"
    if hyper.packing and plan.method not in PACKABLE:
        yield f"packing is for {' and '.join(sorted(PACKABLE))} only; set packing to False"
    if hyper.bf16 and hyper.fp16:
        yield "bf16 and fp16 exclude each other; choose one"
    if plan.hardware.device == "cpu" and (hyper.bf16 or hyper.fp16):
        yield "on a CPU bf16 and fp16 must be False"
    if plan.hardware.spread != "none" and plan.hardware.gpus < 2:
        yield f"{plan.hardware.spread} needs at least two GPUs"
    if plan.method in SAMPLING:
        if not hyper.num_generations or not hyper.max_completion_length:
            yield f"{plan.method} needs num_generations and max_completion_length"
        elif generated(hyper, devices) % hyper.num_generations:
            yield (
                f"batch x steps_per_generation (or accumulation) x GPUs is {generated(hyper, devices)}, "
                f"not a multiple of num_generations={hyper.num_generations}; "
                "change one of them"
            )
    if plan.method == "kto" and hyper.per_device_train_batch_size < 2:
        yield "kto needs a per_device_train_batch_size of at least 2"
    if plan.eval.split and plan.eval.share:
        yield "eval has both a split and a share; give one"


def generated(hyper: Hyper, devices: int) -> int:
    """Completions that are generated together."""
    steps = hyper.steps_per_generation or hyper.gradient_accumulation_steps
    return hyper.per_device_train_batch_size * steps * devices


def read_plan(value: TrainingPlan | dict[str, Any] | str) -> TrainingPlan:
    """A plan from JSON text or a dict; what is wrong comes back as one line per mistake, with what to do."""
    if isinstance(value, TrainingPlan):
        return value
    try:
        text = value if isinstance(value, str) else json.dumps(value)
        return TrainingPlan.model_validate_json(text)
    except ValidationError as error:
        raise ToolError("The plan is not valid:\n" + "\n".join(mistakes(error))) from None
    except TypeError as error:
        raise ToolError(f"The plan is not plain JSON: {error}. Use text, numbers, lists and dicts only.") from None


def mistakes(error: ValidationError) -> list[str]:
    """One line per mistake: where, what is there, what would be right."""
    lines = []
    for one in error.errors(include_url=False):
        where = ".".join(str(part) for part in one["loc"])
        match one["type"]:
            case "extra_forbidden":
                near = difflib.get_close_matches(str(one["loc"][-1]), names_at(one["loc"][:-1]), 1, 0.5)
                lines.append(f"- {where} does not exist." + (f" Did you mean {near[0]}?" if near else " Remove it."))
            case "missing":
                lines.append(f"- {where} is missing. Add it.")
            case "json_invalid":
                lines.append(f"- it is not JSON: {one['msg']}.")
            case "value_error":
                lines.append(f"- {where + ': ' if where else ''}{one['msg'].removeprefix('Value error, ')}.")
            case _:
                given = repr(one["input"])
                lines.append(f"- {where}: {one['msg']}; it is {given if len(given) < 60 else given[:57] + '...'}.")
    return lines


def names_at(where: tuple[int | str, ...]) -> list[str]:
    """The fields of the part of the plan at that place."""
    kind: Any = TrainingPlan
    for name in where:
        kind = kind.model_fields[name].annotation if isinstance(name, str) and name in kind.model_fields else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
    return list(kind.model_fields)
