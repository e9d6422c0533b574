"""Planning a training run: method, adapter, hyper-parameters with reasons, memory, machines, time and cost.

Computes everything and starts nothing. Times are ranges from arithmetic, not from a trial run.
"""

import difflib
import os
from math import ceil
from pathlib import Path
from typing import Any

from tools import envelope
from tools.context import ToolError, here
from tools.declare import tool
from tools.hardware import fit as fitting
from tools.hardware.fit import Fit, Load
from tools.hardware.loading import Found, load
from tools.hardware.memory import Work
from tools.hardware.offers import Offer, all_offers
from tools.hardware.speed import has_bf16
from tools.plan import SAMPLING, TASK_TYPES, Hyper, Reason, TrainingPlan, read_plan
from tools.plans.choice import adapters_for, method_for
from tools.plans.data import Facts, facts_of
from tools.plans.defaults import METRICS, Amount, Draft, draft, lora_rank
from tools.plans.page import page
from tools.plans.selection import faster, nothing_fits, select

OTHER_PINS = {
    "adapter",
    "r",
    "alpha",
    "dropout",
    "target_modules",
    "seed",
    "eval_split",
    "metric",
    "teacher",
    "push_to",
}
MARGIN = 1.3  # of the slow estimate, before a run is stopped


def absolute(name: str) -> str:
    """A local path in full, so that the script runs from anywhere; an id of the Hub as it is."""
    path = here().folder / Path(name).expanduser()
    return str(Path(os.path.abspath(path))) if name and path.exists() else name


@tool(risk="free")
def plan_training(
    model: str,
    dataset: str,
    method: str | None = None,
    wish: str = "",
    hardware: str | None = None,
    max_usd: float | None = None,
    max_minutes: float | None = None,
    overrides: dict | None = None,
) -> dict:
    """Plan a training: method, LoRA or not, hyper-parameters with reasons, memory, which hardware fits, time and cost.

    Nothing is started or spent. Answers "what hardware and cost for X" too: leave the dataset "".

    Args:
        model: A model id of the Hub or a local folder.
        dataset: A dataset id or a local path; "" when only hardware and cost are asked for.
        method: sft, dpo, grpo, kto, reward, rloo, distillation, cpt, sequence-classification, token-classification,
            embeddings, image-classification, object-detection, vision-sft or vision-dpo. Left out: from data and wish.
        wish: What the person said, in their words.
        hardware: "local", "jobs" (cheap, and of that the fastest) or a flavor such as "a10g-large"; chosen if left out.
        max_usd: What it may cost at most.
        max_minutes: How long it may take at most.
        overrides: Values that win over the plan's, for example {"learning_rate": 1e-4, "adapter": "none", "r": 32}.

    Returns:
        A report; `plan` is the plan as JSON for write_training_script, `reasons` says why each value was chosen,
        `offers` lists the machines with memory, minutes, usd and, where one does not fit, the problem.
    """
    pins = checked(overrides or {})
    positive(max_usd=max_usd, max_minutes=max_minutes)
    model, dataset = absolute(model), absolute(dataset)
    found = load(model)
    facts = facts_of(dataset, model)
    chosen_method, why_method = method_for(method, wish, facts)
    offers, prices = wanted(hardware)
    tries = []
    for adapter, why in adapters_for(pins.get("adapter"), wish, chosen_method, found.model):
        rank, why_rank = (pins["r"], "you set it") if "r" in pins else lora_rank(chosen_method, facts.rows)
        drafts = {
            device: draft(chosen_method, adapter, found.model, facts, pins, device)
            for device in {one.device for one in offers}
        }
        fits = []
        for offer in offers:
            made, amount = drafts[offer.device]
            work = first_work(chosen_method, adapter, rank, amount, made)
            fits.append(fitting.on(found.model, work, load_of(amount, made), offer, set(pins)))
        fits = fitting.marked(fits)
        tries.append((adapter, fits))
        best = select(fits, max_usd, max_minutes)
        if best:
            made, _ = drafts[best.offer.device]
            made.reasons[:0] = [
                Reason(what="method", value=chosen_method, why=why_method),
                Reason(what="adapter", value=adapter, why=why),
            ]
            if adapter != "none":
                made.reasons.append(Reason(what="r", value=str(rank), why=why_rank))
            plan = assemble(found, facts, chosen_method, adapter, rank, made, best, (max_usd, max_minutes), pins)
            notes = [*notes_of(found, facts, chosen_method, best, prices), *faster(best, fits)]
            return envelope.report(
                page(plan, found.model, best, fits, notes),
                f"Plan: {chosen_method} of {model}",
                plan=plan.model_dump(mode="json"),
                reasons=[one.model_dump() for one in plan.reasons],
                offers=[told(one) for one in fits],
                notes=[note for note in notes if note],
            )
    raise ToolError(nothing_fits(tries, max_usd, max_minutes))


def checked(overrides: dict[str, Any]) -> dict[str, Any]:
    known = {*Hyper.model_fields, *OTHER_PINS}
    for name in overrides:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(sorted(known))}."
            raise ToolError(f"overrides: there is no setting {name!r}.{hint}")
        if name in Hyper.model_fields:
            try:  # a wrong type would fail in arithmetic long before the plan is checked
                Hyper.model_validate(
                    {"learning_rate": 1e-4, "per_device_train_batch_size": 1} | {name: overrides[name]}
                )
            except ValueError:
                field = Hyper.model_fields[name]
                raise ToolError(
                    f"overrides: {name} cannot be {overrides[name]!r}. It is of type {field.annotation}."
                ) from None
    for name in ("r", "alpha", "seed"):
        if name in overrides and (isinstance(overrides[name], bool) or not isinstance(overrides[name], int)):
            raise ToolError(f"overrides: {name} must be a whole number, not {overrides[name]!r}.")
    return dict(overrides)


def positive(**limits: float | None) -> None:
    for name, value in limits.items():
        if value is not None and value <= 0:
            raise ToolError(f"{name} must be more than 0; leave it out for no limit.")


def wanted(hardware: str | None) -> tuple[list[Offer], str]:
    """The machines to consider, and where their prices come from."""
    offers, note = all_offers()
    if hardware is None:
        return offers, note
    if hardware in ("jobs", "hf-jobs"):
        return [one for one in offers if one.where == "hf-jobs"], note
    named = [one for one in offers if one.name == hardware.strip().lower()]
    if not named:
        names = [one.name for one in offers]
        near = difflib.get_close_matches(hardware.lower(), names, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ToolError(f"Unknown hardware {hardware!r}.{hint} Use jobs or one of: {', '.join(names)}.")
    return named, note if named[0].where != "local" else ""


def first_work(method: str, adapter: str, rank: int, amount: Amount, made: Draft) -> Work:
    pins = made.pinned
    precision = {"float32": "bf16", "bfloat16": "bf16-pure"}.get(pins.get("dtype", ""), "bf16")
    return Work(
        method=method,
        adapter=adapter,
        rank=rank,
        batch=pins.get("per_device_train_batch_size", 1),
        accumulation=pins.get("gradient_accumulation_steps", 1),
        length=amount.length,
        checkpointing=pins.get("gradient_checkpointing", False),
        generations=made.values.get("num_generations") or 0,
        generation_steps=pins.get("steps_per_generation", 0),
        completion=made.values.get("max_completion_length") or 0,
        precision=precision if adapter == "none" else "bf16",  # type: ignore[arg-type]
        optim=pins.get("optim", "adamw_torch_fused"),
        attention="eager" if pins.get("attn_implementation") == "eager" else "sdpa",
    )


def load_of(amount: Amount, made: Draft) -> Load:
    """Rows seen in all: a prompt counts once per answer, and a number of steps the person set wins over epochs."""
    steps, answers = made.pinned.get("max_steps"), made.values.get("num_generations") or 1
    rows = steps * amount.per_step if steps else ceil(amount.rows * made.values["num_train_epochs"] * answers)
    return Load(rows, amount.mean, amount.per_step)


def assemble(
    found: Found,
    facts: Facts,
    method: str,
    adapter: str,
    rank: int,
    made: Draft,
    best: Fit,
    limits: tuple[float | None, float | None],
    pins: dict[str, Any],
) -> TrainingPlan:
    hyper = machine_values(made, best, adapter)
    verdict = facts.verdicts.get({"rloo": "grpo"}.get(method, method))
    scored = verdict is not None and verdict.form == "sentence pairs"
    held_out = next((name for name in ("validation", "valid", "dev", "eval", "test") if facts.splits.get(name)), None)
    held_out = pins.get("eval_split", held_out)
    if held_out and facts.splits and held_out not in facts.splits:
        raise ToolError(f"{facts.id!r} has no split {held_out!r}. It has: {', '.join(facts.splits)}.")
    minutes, price = best.minutes, best.offer.usd_per_hour
    most = ceil(limits[1] or max(10, (minutes.high if minutes else 60) * MARGIN))
    cap = None if price is None else round(price * most / 60, 2)
    return read_plan(
        {
            "method": method,
            "model": {
                "id": found.model.name,
                "revision": found.revision,
                "parameters": found.model.parameters,
                "source": found.model.source,
                "teacher": pins.get("teacher"),
            },
            "dataset": {
                "id": facts.id,
                "split": "train" if not facts.splits or "train" in facts.splits else next(iter(facts.splits)),
                "fingerprint": facts.fingerprint,
                "rows": facts.rows if facts.verdicts else None,
                "mapping": verdict.mapping if verdict and verdict.verdict == "needs mapping" else None,
            },
            "adapter": adapter_values(method, adapter, rank, pins),
            "hyper": hyper,
            "seed": pins.get("seed", 42),
            "hardware": {
                "where": best.offer.where,
                "name": best.offer.name,
                "device": best.offer.device,
                "gpu": best.offer.gpu,
                "gpus": best.offer.gpus,
                "spread": best.spread,
                "usd_per_hour": price,
            },
            "limits": {"minutes": most, "usd": min(cap, limits[0]) if cap is not None and limits[0] else cap},
            "outputs": {"push_to": pins.get("push_to")},
            "eval": {
                "split": held_out,
                "share": None if held_out else held_out_share(facts.rows),
                "metric": pins.get("metric", "spearman" if scored else METRICS.get(method, "loss")),
            },
            "estimate": {
                "memory_gb": round(best.peak.total / 2**30, 2),
                "memory": {name: round(value / 2**30, 3) for name, value in best.peak.parts().items()},
                "minutes": [round(minutes.low, 1), round(minutes.high, 1)] if minutes else None,
                "usd": [round(best.usd.low, 2), round(best.usd.high, 2)] if best.usd else None,
                "assumed": facts.assumed,
            },
            "reasons": [one.model_dump() for one in made.reasons],
        }
    )


def machine_values(made: Draft, best: Fit, adapter: str) -> dict[str, Any]:
    """What the machine decides: batch, accumulation, checkpointing, number format."""
    work, offer = best.work, best.offer
    rows = work.batch * work.accumulation * max(1, offer.gpus)
    made.put("per_device_train_batch_size", work.batch, f"fits {offer.told()}")
    made.put("gradient_accumulation_steps", work.accumulation, f"so that a step sees {rows} rows")
    if work.generations:
        all_at_once = work.generation_steps in (0, work.accumulation)
        why = "all answers of a step at once" if all_at_once else "fewer answers at once: those of a step did not fit"
        made.put("steps_per_generation", work.generation_steps or work.accumulation, why)
    why = "activations did not fit otherwise" if work.checkpointing else "it fits without, and is faster so"
    made.put("gradient_checkpointing", work.checkpointing, why)
    half = bool(offer.gpus)
    if not half:
        made.put("bf16", False, "CPUs are not faster with 16 bits")
        made.put("dtype", "float32", "CPUs compute in it")
    elif work.precision == "bf16-pure":
        made.put("bf16", False, "no autocast: weights, gradients and optimizer are in bf16 already")
        made.put("dtype", "bfloat16", "weights learned in fp32 did not fit; small steps may be lost")
    else:
        bf16 = has_bf16(offer)
        made.put(
            "bf16" if bf16 else "fp16", True, f"the {offer.gpu} computes in it{'' if bf16 else ' and has no bf16'}"
        )
        if adapter == "none":
            made.put("dtype", "float32", "all weights are learned, and small steps would be lost in 16 bits")
        else:
            made.put("dtype", "bfloat16" if bf16 else "float16", "the frozen weights need no more")
    for name in Hyper.model_fields:
        if name in made.pinned and name not in made.values:
            made.put(name, made.pinned[name], "you set it")
    few = (made.pinned.get("max_steps") or 1_000) <= 100
    made.values.setdefault("logging_steps", 1 if few else 10)
    return {name: value for name, value in made.values.items() if name in Hyper.model_fields}


def adapter_values(method: str, adapter: str, rank: int, pins: dict[str, Any]) -> dict[str, Any]:
    if adapter == "none":
        return {"kind": "none"}
    head = {"modules_to_save": ["score"]} if TASK_TYPES.get(method) == "SEQ_CLS" else {}
    task = TASK_TYPES.get(method, "FEATURE_EXTRACTION" if method == "embeddings" else "CAUSAL_LM")
    return {
        "kind": adapter,
        "r": rank,
        "alpha": pins.get("alpha", 2 * rank),
        "dropout": float(pins.get("dropout", 0.0)),
        "target_modules": pins.get("target_modules", "all-linear"),
        "task_type": task,
        **head,
    }


def held_out_share(rows: int) -> float:
    """A tenth, but no more than about a thousand rows: enough to tell a difference."""
    return 0.1 if rows <= 10_000 else round(max(0.001, 1_000 / rows), 4)


def notes_of(found: Found, facts: Facts, method: str, best: Fit, prices: str) -> list[str]:
    model = found.model
    counted = f"{facts.problems} problem{'s' if facts.problems > 1 else ''}"
    unreached = model.experts and best.work.adapter != "none"
    prepare = f"`prepare_dataset({facts.id!r}, method={method!r})`, and plan with the folder it writes"
    return [
        found.note,
        prices,
        "Jobs need a Hugging Face token with credit." if best.offer.where == "hf-jobs" and not here().hf_token else "",
        f"Assumed: {facts.assumed.rstrip('.')}." if facts.assumed else "",
        f"Prepare the data first, {facts.prepare_first}: {prepare}." if facts.prepare_first else "",
        f"The audit found {counted}: see inspect_dataset({facts.id!r})." if facts.problems else "",
        "Memory is less certain: the shape is not read from a config." if not model.exact else "",
        "Adapters reach attention only here: the experts are fused tensors, and stay as they are." if unreached else "",
        f"{method} needs a reward function; write_training_script takes it." if method in SAMPLING else "",
    ]


def told(one: Fit) -> dict[str, Any]:
    return {
        "name": one.offer.name,
        "where": one.offer.where,
        "machine": one.offer.told(),
        "memory_gb": round(one.peak.total / 2**30, 2),
        "fits": one.fits,
        "problem": one.problem,
        "spread": one.spread,
        "minutes": [round(one.minutes.low, 1), round(one.minutes.high, 1)] if one.minutes else None,
        "usd": [round(one.usd.low, 2), round(one.usd.high, 2)] if one.usd else None,
        "mark": one.mark,
    }
