"""Which of the machines that fit is taken, what is said of a faster one, and why none will do."""

from tools.context import here
from tools.hardware.fit import Fit
from tools.plans.page import minutes, usd

PATIENCE_MINUTES = 24 * 60  # how long one waits for the own machine when others can be had
PATIENCE_ALONE_MINUTES = 7 * 24 * 60  # and without an account
NEARLY, CENTS = 1.25, 0.10  # what costs at most so much more than the cheapest machine is cheap, too
LONG_MINUTES = 120  # on this machine; from there on the way to a faster one is told


def select(fits: list[Fit], max_usd: float | None, max_minutes: float | None) -> Fit | None:
    """This machine when it does the work in time, for it costs nothing; else what is cheap, and of that the fastest."""
    able = [one for one in fits if one.fits and within(one, max_usd, max_minutes)]
    local = next((one for one in able if one.offer.where == "local"), None)
    jobs = [one for one in able if one.offer.where != "local"]
    patience = PATIENCE_MINUTES if here().hf_token else PATIENCE_ALONE_MINUTES
    if local and (not jobs or (local.minutes and local.minutes.high <= patience)):
        return local
    return min(cheap(jobs), key=lambda one: one.minutes.high if one.minutes else float("inf"), default=None)


def cheap(jobs: list[Fit]) -> list[Fit]:
    """The cheapest and what costs hardly more."""
    known = [one.usd.high for one in jobs if one.usd]
    if not known:
        return jobs
    most = min(known) * NEARLY + CENTS
    return [one for one in jobs if one.usd and one.usd.high <= most]


def within(one: Fit, max_usd: float | None, max_minutes: float | None) -> bool:
    """The slow end of the range must hold; an unknown price is above every limit."""
    in_time = max_minutes is None or bool(one.minutes and one.minutes.high <= max_minutes)
    return in_time and (max_usd is None or bool(one.usd and one.usd.high <= max_usd))


def nothing_fits(tries: list[tuple[str, list[Fit]]], max_usd: float | None, max_minutes: float | None) -> str:
    able = [(adapter, one) for adapter, fits in tries for one in fits if one.fits]
    if not able:
        gpus = any(one.offer.gpus for _, fits in tries for one in fits)
        adapter, fits = tries[-1] if gpus else tries[0]
        nearest = max(fits, key=lambda one: (one.offer.vram_gb * one.offer.gpus, one.offer.ram_gb))
        if adapter == "qlora" and not gpus:
            return "QLoRA's 4-bit loading needs an NVIDIA GPU. Use overrides={'adapter': 'lora'}, or hardware='jobs'."
        return (
            f"No machine fits (adapter {adapter}): {nearest.offer.name} {nearest.problem}. "
            "Choose other hardware, overrides={'adapter': 'qlora'}, a shorter max_length or a smaller model."
        )
    limits = [f"{max_usd:g} USD" if max_usd else "", f"{max_minutes:g} minutes" if max_minutes else ""]
    adapter, best = min(able, key=lambda pair: pair[1].usd.high if pair[1].usd else float("inf"))
    cost = f"up to {best.usd.high:.2f} USD and " if best.usd else ""
    took = f"{cost}{best.minutes.high:.0f} minutes" if best.minutes else "an unknown time"
    return (
        f"No machine stays within {' and '.join(one for one in limits if one)}: "
        f"{best.offer.name} ({adapter}) may need {took}. "
        "Raise the limit, or set overrides max_steps, num_train_epochs or max_length lower."
    )


def faster(best: Fit, found: list[Fit]) -> list[str]:
    """What a rented machine would do to a run that takes hours here."""
    if best.offer.where != "local" or not best.minutes or best.minutes.high < LONG_MINUTES:
        return []
    jobs = cheap([one for one in found if one.fits and one.offer.where != "local" and one.minutes])
    other = min(jobs, key=lambda one: one.minutes.high if one.minutes else float("inf"), default=None)
    if not other or not other.minutes or other.minutes.high * 4 > best.minutes.high:
        return []
    return [f"Faster: hardware='{other.offer.name}' would take {minutes(other.minutes)} for {usd(other)}."]
