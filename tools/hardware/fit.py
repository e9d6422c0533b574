"""Which machines a training fits, with time and cost as ranges; the cheapest and the fastest of them are marked.

For each machine the settings are eased in a fixed order until it fits: smaller batches with more accumulation,
checkpointing, 16-bit weights for a full fine-tune, and at last the model spread over several GPUs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, gcd

from tools.hardware.memory import Peak, Work, peak, size
from tools.hardware.models import Model
from tools.hardware.offers import Offer
from tools.hardware.speed import Range, has_bf16, start_minutes, tokens_per_second

GPU_USABLE = 0.92  # drivers and the display take some, and an allocator that is quite full fails
RAM_USABLE = 0.90
LARGEST_BATCH = 16
CPU_TOKENS = 256  # of a forward pass; more tokens are no faster on a CPU, they only bring padding
SMALLEST_BATCH = 4  # rows per forward pass of a GPU, below which checkpointing is tried first


@dataclass(frozen=True)
class Load:
    """How much there is to do, whatever the machine."""

    rows: int  # rows seen in all, epochs included
    tokens: int  # of one row on average
    rows_per_step: int


@dataclass(frozen=True)
class Fit:
    offer: Offer
    work: Work
    peak: Peak
    problem: str  # why it does not fit; "" when it does
    speed: Range | None = None
    minutes: Range | None = None
    usd: Range | None = None
    mark: str = ""

    @property
    def fits(self) -> bool:
        return not self.problem

    @property
    def spread(self) -> str:
        """none | ddp (each GPU has the whole model) | fsdp (the model is spread over them)"""
        if self.offer.gpus <= 1:
            return "none"
        return "fsdp" if self.work.gpus > 1 else "ddp"


def marked(found: list[Fit]) -> list[Fit]:
    """The same, with the cheapest and the fastest marked."""
    paid = [one for one in found if one.fits and one.minutes and one.offer.usd_per_hour is not None]
    if not paid:
        return found
    jobs = [one for one in paid if one.offer.where != "local"] or paid
    cheapest = min(jobs, key=lambda one: one.usd.high if one.usd else 0)
    fastest = min(paid, key=lambda one: one.minutes.high if one.minutes else 0)
    marks = {id(cheapest): "cheapest", id(fastest): "fastest"}
    if cheapest is fastest:
        marks = {id(cheapest): "cheapest and fastest"}
    return [replace(one, mark=marks.get(id(one), "")) for one in found]


def on(model: Model, work: Work, load: Load, offer: Offer, pinned: set[str]) -> Fit:
    """The first of the eased settings that fits that machine, or the last with what is missing."""
    refused = impossible(work, offer)
    tried = [(one, peak(model, one)) for one in eased(work, load, offer, pinned)]
    for one, needed in tried:
        if not refused and not lacking(needed, offer):
            return timed(model, Fit(offer, one, needed, ""), load)
    one, needed = min(tried, key=lambda pair: pair[1].total)
    return Fit(offer, one, needed, refused or lacking(needed, offer))


def impossible(work: Work, offer: Offer) -> str:
    if work.adapter == "qlora" and not offer.gpus:
        return "4-bit loading needs an NVIDIA GPU"
    if work.precision == "bf16-pure" and offer.gpus and not has_bf16(offer):
        return f"the {offer.gpu} has no bf16"
    return ""


def lacking(needed: Peak, offer: Offer) -> str:
    if not offer.gpus:
        return short_of("memory", needed.total, offer.ram_gb, RAM_USABLE)
    return short_of("GPU memory", needed.total, offer.vram_gb, GPU_USABLE) or short_of(
        "main memory", needed.host, offer.ram_gb, RAM_USABLE
    )


def short_of(what: str, needed: float, there: float, usable: float) -> str:
    if needed <= there * usable * 2**30:
        return ""
    return f"needs {size(needed)} {what}, {there * usable:.1f} of {there:.0f} GB can be used"


def eased(work: Work, load: Load, offer: Offer, pinned: set[str]) -> Iterator[Work]:
    """From the most comfortable settings to the last that are worth a try."""
    precisions = [work.precision] if offer.gpus else ["fp32"]
    full = work.adapter == "none" and offer.gpus and "dtype" not in pinned and has_bf16(offer)
    precisions += ["bf16-pure"] if full and work.precision == "bf16" else []
    spreads = [1] + ([offer.gpus] if offer.gpus > 1 else [])
    enough = SMALLEST_BATCH if offer.gpus else 1
    for precision in precisions:
        for gpus in spreads:
            for checkpointing in checkpointings(work, pinned):
                for batch, accumulation in batches(work, load, offer, pinned):
                    if batch < enough and not checkpointing and "gradient_checkpointing" not in pinned:
                        break  # from here on computing activations anew is the smaller loss
                    for together in generated_together(work, batch, accumulation, pinned):
                        yield work.but(
                            precision=precision,
                            device=offer.device,
                            gpus=gpus,
                            batch=batch,
                            accumulation=accumulation,
                            checkpointing=checkpointing,
                            generation_steps=together,
                        )


def batches(work: Work, load: Load, offer: Offer, pinned: set[str]) -> Iterator[tuple[int, int]]:
    """Rows per forward pass and passes per step; their product over all GPUs stays what the plan wants."""
    devices = max(1, offer.gpus)
    group = work.generations or 1
    if "per_device_train_batch_size" in pinned:
        fixed = work.accumulation if "gradient_accumulation_steps" in pinned else 0
        yield work.batch, fixed or whole_groups(work.batch, ceil(load.rows_per_step / work.batch / devices), group)
        return
    least = 2 if work.method == "kto" else 1  # its drift is measured on the other rows of a batch
    batch = LARGEST_BATCH if offer.gpus else max(least, power_below(CPU_TOKENS // max(1, load.tokens)))
    while batch >= least:
        if batch * devices <= load.rows_per_step or batch == least:
            fixed = work.accumulation if "gradient_accumulation_steps" in pinned else 0
            yield batch, fixed or whole_groups(batch, ceil(load.rows_per_step / batch / devices), group)
        batch //= 2


def power_below(value: int) -> int:
    """From 1 to the largest batch."""
    return min(LARGEST_BATCH, 1 << max(0, value.bit_length() - 1))


def whole_groups(batch: int, accumulation: int, group: int) -> int:
    """A generation batch must hold whole groups of completions: batch x accumulation divides by their number."""
    while batch * accumulation % group:
        accumulation += 1
    return accumulation


def generated_together(work: Work, batch: int, accumulation: int, pinned: set[str]) -> list[int]:
    """All completions of a step at once is fastest; one group of them needs the least memory."""
    if not work.generations or "steps_per_generation" in pinned:
        return [work.generation_steps]
    fewest = work.generations // gcd(work.generations, batch)
    return [accumulation] if fewest >= accumulation else [accumulation, fewest]


def checkpointings(work: Work, pinned: set[str]) -> list[bool]:
    return [work.checkpointing] if "gradient_checkpointing" in pinned else [False, True]


def timed(model: Model, fit: Fit, load: Load) -> Fit:
    """Padding is taken as trained: packing or sorting by length only makes it shorter."""
    speed = tokens_per_second(model, fit.work.but(length=load.tokens), fit.offer)
    pairs = 2 if fit.work.sequences > fit.work.batch else 1
    total = load.rows * load.tokens * pairs
    start = start_minutes(model, fit.offer)
    minutes = Range(total / speed.high / 60 + start.low, total / speed.low / 60 + start.high)
    price = fit.offer.usd_per_hour
    usd = Range(minutes.low / 60 * price, minutes.high / 60 * price) if price is not None else None
    return replace(fit, speed=speed, minutes=minutes, usd=usd)
