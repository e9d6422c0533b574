"""Why a run failed, from its log, its metrics and its exit code, and a changed plan in the known order of cures.

Out of memory and numbers that are none are recognised. Cures that leave the result as it was meant come first; one that
changes what is trained says so. The first that applies is put into the plan; nothing is started here.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.context import ToolError
from tools.jobs.local import LOG, last_lines
from tools.plan import SAMPLING, TrainingPlan, read_plan
from tools.running import metrics, record
from tools.running.state import KILLED, Standing

MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc|\bMemoryError\b", re.I
)
NAN = re.compile(r"loss is (nan|inf)|nan or inf|probability tensor contains either", re.I)
LEAST_LENGTH = 128


@dataclass(frozen=True)
class Cure:
    what: str
    why: str
    changes: dict[str, Any]  # by part of the plan
    changes_result: bool = False


def diagnose(folder: Path, now: Standing) -> dict[str, Any] | None:
    """None for a run that did not fail."""
    if now.state not in ("failed", "lost"):
        return None
    result, lines = record.part(folder / "result.json"), last_lines(folder / LOG, 200)
    plan = plan_of(folder)
    if evidence := nan_evidence(folder, now, result, lines):
        return told("numbers that are none", evidence, plan, nan_cures(plan, folder) if plan else ())
    if evidence := memory_evidence(now, lines):
        return told("out of memory", evidence, plan, memory_cures(plan) if plan else ())
    if now.state == "lost":
        advice = "The machine stopped or everything was killed. resume_run goes on from the last checkpoint."
        return {"kind": "lost", "evidence": [now.reason], "advice": advice}
    error = result.get("error") or {}
    evidence = [line for line in (error.get("text"), *[line for line in lines if "Error" in line][-2:]) if line]
    return {"kind": error.get("kind") or "other", "evidence": evidence or lines[-3:], "advice": error.get("mend") or ""}


def plan_of(folder: Path) -> TrainingPlan | None:
    try:
        return read_plan((folder / "plan.json").read_text(encoding="utf-8"))
    except ToolError:
        return None


def nan_evidence(folder: Path, now: Standing, result: dict[str, Any], lines: list[str]) -> list[str]:
    found = [str(result["diverged"])] if result.get("diverged") and now.state == "failed" else []
    for name in ("train/loss", "train/grad_norm"):
        bad = [step for step, value in metrics.series(folder).get(name, []) if not math.isfinite(value)]
        found += [f"{name} is not a number from step {bad[0]}"] if bad else []
    return found + [line for line in lines if NAN.search(line)][-2:]


def memory_evidence(now: Standing, lines: list[str]) -> list[str]:
    found = [line for line in lines if MEMORY.search(line)][-2:]
    if not found and now.exit_code in (KILLED, -9):
        found = ["killed by SIGKILL without anybody asking for it, as the system does when memory runs out"]
    return found


def memory_cures(plan: TrainingPlan) -> Iterator[Cure]:
    hyper, cuda = plan.hyper, plan.hardware.device == "cuda"
    batch, accumulation = hyper.per_device_train_batch_size, hyper.gradient_accumulation_steps
    if batch > (2 if plan.method == "kto" else 1):
        half = batch // 2
        changes = {"per_device_train_batch_size": half, "gradient_accumulation_steps": accumulation * batch // half}
        what = (
            f"batch {half} x accumulation {changes['gradient_accumulation_steps']} in place of {batch} x {accumulation}"
        )
        yield Cure(what, "the same rows per step, in smaller pieces", {"hyper": changes}, half * 2 != batch)
    if cuda and not hyper.gradient_checkpointing:
        why = "activations are computed again in place of kept; about a quarter slower"
        yield Cure("gradient checkpointing", why, {"hyper": {"gradient_checkpointing": True}})
    if cuda and hyper.optim.startswith("adamw_torch"):
        why = "the optimizer's state in 8 bit, a quarter of the memory"
        yield Cure("an 8-bit optimizer", why, {"hyper": {"optim": "paged_adamw_8bit"}})
    if plan.adapter.kind == "none":
        lora = {"kind": "lora", "r": 16, "alpha": 32}
        yield Cure(
            "LoRA in place of all weights", "gradients and optimizer for a small part only", {"adapter": lora}, True
        )
    elif cuda and plan.adapter.kind == "lora":
        yield Cure(
            "QLoRA: the base model in 4 bit", "a quarter of its weights' memory", {"adapter": {"kind": "qlora"}}, True
        )
    if hyper.max_length and hyper.max_length // 2 >= LEAST_LENGTH:
        half = hyper.max_length // 2
        yield Cure(f"max_length {half}", "longer rows are cut", {"hyper": {"max_length": half}}, True)
    if plan.method in SAMPLING and (hyper.max_completion_length or 0) // 2 >= 32:
        half = (hyper.max_completion_length or 0) // 2
        yield Cure(f"answers of {half} tokens", "longer ones are cut", {"hyper": {"max_completion_length": half}}, True)


def nan_cures(plan: TrainingPlan, folder: Path) -> Iterator[Cure]:
    hyper = plan.hyper
    if hyper.fp16:
        why = "float16 overflows where bfloat16 does not"
        yield Cure("bf16 in place of fp16", why, {"hyper": {"fp16": False, "bf16": True}})
    lower = float(f"{hyper.learning_rate / 5:.2g}")
    why = f"{hyper.learning_rate:g} was too much for this model and data"
    yield Cure(f"learning rate {lower:g}", why, {"hyper": {"learning_rate": lower}}, True)
    if hyper.max_grad_norm > 0.3:
        yield Cure("max_grad_norm 0.3", "single wild rows count for less", {"hyper": {"max_grad_norm": 0.3}}, True)
    if 0 <= hyper.warmup_steps < 0.1:
        yield Cure("warm up over a tenth of the steps", "a gentler start", {"hyper": {"warmup_steps": 0.1}}, True)


def told(kind: str, evidence: list[str], plan: TrainingPlan | None, cures: Any) -> dict[str, Any]:
    known = list(cures)
    listed = [{"what": one.what, "why": one.why, "changes_result": one.changes_result} for one in known]
    changed = next((new for one in known if (new := applied(plan, one)) is not None), None) if plan else None
    advice = (
        "write_training_script(diagnosis['plan']) makes a new run with the first cure; then preflight and start_run."
        if changed
        else "No change of the plan is left to try here: take larger hardware, or look at the data."
    )
    return {"kind": kind, "evidence": evidence, "cures": listed, "plan": changed, "advice": advice}


def applied(plan: TrainingPlan, cure: Cure) -> dict[str, Any] | None:
    """The plan with the cure in it; None where the plan's own rules forbid it."""
    new = plan.model_dump(mode="json")
    for section, values in cure.changes.items():
        new[section] |= values
    why = {"what": "cure", "value": cure.what, "why": cure.why}
    new["reasons"] = [*new["reasons"], why]
    new["estimate"] = None  # it was made for the old plan
    try:
        return read_plan(new).model_dump(mode="json")
    except ToolError:
        return None
