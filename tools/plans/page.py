"""The plan as a page: what will be done, what it needs, where it could run, and why each value is what it is."""

from tools.hardware.fit import Fit
from tools.hardware.memory import size
from tools.hardware.models import Model
from tools.hardware.speed import Range
from tools.plan import TrainingPlan

MOST_OFFERS = 12


def page(plan: TrainingPlan, model: Model, chosen: Fit, found: list[Fit], notes: list[str]) -> str:
    where = "this machine" if plan.hardware.where == "local" else plan.hardware.name
    adapter = {"none": "all weights", "lora": f"LoRA r={plan.adapter.r}", "qlora": f"QLoRA r={plan.adapter.r}"}
    lines = [
        f"**{plan.method}** of `{plan.model.id}`, {model.told()}, {adapter[plan.adapter.kind]}, "
        f"on {f'`{plan.dataset.id}`' if plan.dataset.id else 'a dataset still to be named'}.",
        f"Runs on **{where}** ({chosen.offer.told()}{spread(plan)}): {size(chosen.peak.total)} memory per device, "
        f"{minutes(chosen.minutes)}, {usd(chosen)}; stopped after {plan.limits.minutes} minutes.",
        f"Memory: {chosen.peak.told()}.",
        "",
        "| machine | | memory needed | time | cost | |",
        "|---|---|---|---|---|---|",
        *(row(one, one is chosen or one.offer == chosen.offer) for one in shortlist(found, chosen)),
        "",
        *(f"- {note}" for note in notes if note),
        "",
        "| setting | value | why |",
        "|---|---|---|",
        *(f"| {one.what} | {one.value} | {one.why.replace('|', '/')} |" for one in plan.reasons),
    ]
    return "\n".join(lines)


def shortlist(found: list[Fit], chosen: Fit) -> list[Fit]:
    """The machines worth showing: what fits first, the marked ones always."""
    fitting = [one for one in found if one.fits]
    kept = [one for one in fitting if one.mark or one.offer == chosen.offer]
    kept += [one for one in fitting if one not in kept][: max(0, MOST_OFFERS - len(kept))]
    refused = [one for one in found if not one.fits]
    kept += refused[-max(0, MOST_OFFERS - len(kept)) :] if len(kept) < MOST_OFFERS else []
    return [one for one in found if one in kept]


def row(fit: Fit, chosen: bool) -> str:
    name = f"**{fit.offer.name}**" if chosen else fit.offer.name
    if not fit.fits:
        return f"| {name} | {fit.offer.told()} | {size(fit.peak.total)} | | | {fit.problem} |"
    mark = ", ".join(word for word in ("chosen" if chosen else "", fit.mark) if word)
    need = size(fit.peak.total) + (f" on each of {fit.work.gpus}" if fit.work.gpus > 1 else "")
    return f"| {name} | {fit.offer.told()} | {need} | {minutes(fit.minutes)} | {usd(fit)} | {mark} |"


def spread(plan: TrainingPlan) -> str:
    words = {"none": "", "ddp": ", a copy of the model on each GPU", "fsdp": ", the model spread over them by FSDP"}
    return words[plan.hardware.spread]


def minutes(told: Range | None) -> str:
    if told is None:
        return "time unknown"
    if told.high < 90:
        return f"{max(1, round(told.low))} to {max(2, round(told.high))} min"
    return f"{told.low / 60:.1f} to {told.high / 60:.1f} h"


def usd(fit: Fit) -> str:
    if fit.offer.where == "local":
        return "no charge"
    if fit.usd is None:
        return "price unknown"
    return f"${fit.usd.low:.2f} to ${fit.usd.high:.2f}"
