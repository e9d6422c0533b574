"""Times of a kernel and of what it is measured against, interleaved, by the judge's own clock, on inputs nobody saw.

Each call of a batch has tensors of its own, so that nothing can be taken from a call before; between batches outputs
are poisoned and inputs changed, and what the timed calls wrote is judged. Kernel and baselines live in processes apart.
"""

import random
import statistics
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from arena import Arena, Place
from candidate import Candidate
from cases import Case, made
from judge import Judge, expect
from schema import Schema

ROUNDS = 21
BATCH_BYTES = 8 << 20  # tensors of a batch: many small sets, or two large ones
MOST_SETS, WARM = 512, 2


class Refused(Exception):
    """A time that is not believed, and why."""


@dataclass
class Bench:
    truth: ModuleType
    schema: Schema
    arena: Arena
    size: dict
    dtype: torch.dtype
    seed: int
    cases: list[Case] = field(default_factory=list)
    places: list[list[Place]] = field(default_factory=list)
    cost: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw = torch.Generator().manual_seed(self.seed)
        first = self.case()
        self.cost = self.truth.cost(**first.arguments)
        tensors = [*first.outputs.values(), *(v for v in first.arguments.values() if torch.is_tensor(v))]
        room = sum(one.numel() * one.element_size() + 512 for one in tensors)
        count = max(2, min(MOST_SETS, BATCH_BYTES // room)) + WARM
        self.arena.clear()
        for _ in range(count):
            case = self.case()
            self.cases.append(case)
            self.places.append([self.put(one.name, one.out, case) for one in self.schema.tensors])

    def case(self) -> Case:
        return made(self.truth, self.size, self.dtype, self.draw)

    def put(self, name: str, out: bool, case: Case) -> Place:
        tensor = case.outputs[name] if out else case.arguments[name]
        return self.arena.place(tensor.contiguous())

    @property
    def timed(self) -> int:
        return len(self.cases) - WARM

    def told(self) -> dict[str, Any]:
        scalars = [self.cases[0].arguments[one.name] for one in self.schema.scalars]
        sets = [[one.told() for one in places] for places in self.places]
        return {"sets": sets, "scalars": scalars, "outputs": len(self.schema.outputs), "bytes": self.cost["bytes"]}

    def poison(self) -> None:
        for case, places in zip(self.cases, self.places, strict=True):
            for one, where in zip(self.schema.tensors, places, strict=True):
                if one.out:
                    self.arena.poison(where, case.outputs[one.name].dtype)

    def renew(self, number: int) -> None:
        """Other inputs in the same memory."""
        self.cases[number] = case = self.case()
        for one, where in zip(self.schema.tensors, self.places[number], strict=True):
            if not one.out:
                tensor = case.arguments[one.name]
                self.arena.view(where, tensor.dtype).copy_(tensor)

    def untouched(self) -> int:
        """How many timed calls left poison in their outputs."""
        found = 0
        for case, places in zip(self.cases[: self.timed], self.places, strict=False):
            for one, where in zip(self.schema.tensors, places, strict=True):
                tensor = self.arena.view(where, case.outputs[one.name].dtype) if one.out else None
                if tensor is not None and tensor.is_floating_point() and bool(tensor.isnan().any()):
                    found += 1
                    break
        return found

    def wrong(self, number: int) -> str | None:
        case = self.cases[number]
        pairs = zip(self.schema.tensors, self.places[number], strict=True)
        got = [self.arena.view(where, case.outputs[one.name].dtype).clone() for one, where in pairs if one.out]
        return Judge(self.truth).compare(got, expect(self.truth, case.arguments, case.outputs, case.dtype), False)


@dataclass
class Runner:
    """One way to compute, in one process."""

    name: str
    candidate: Candidate
    which: str
    times: list[float] = field(default_factory=list)  # microseconds a call, one a round
    claims: list[float] = field(default_factory=list)  # what the device's own events say


def measure(
    bench: Bench, runners: list[Runner], rounds: int = ROUNDS, device: bool = False
) -> dict[str, dict[str, float]]:
    """Median, spread and best of each runner. Raises Refused when a result is wrong, missing or too fast to be true."""
    for candidate in {id(one.candidate): one.candidate for one in runners}.values():
        good(candidate.ask(120, do="prepare", **bench.told()))
    for one in runners:  # compiles what compiles, starts what starts
        for _ in range(2):
            good(one.candidate.ask(300, do="loop", which=one.which, begin=bench.timed, end=bench.timed + WARM))
    kernel = next(one for one in runners if one.which == "raw")
    quiet = statistics.median(kernel.candidate.timed(10, do="nothing")[1] for _ in range(9))
    threads = kernel.candidate.threads()
    judged = {random.SystemRandom().randrange(rounds), rounds - 1}
    for turn in range(rounds):
        small = bench.timed > 8
        chosen = random.SystemRandom().sample(range(bench.timed), 4 if small else 1) if turn in judged else []
        for number in chosen:
            bench.renew(number)
        random.SystemRandom().shuffle(runners)
        for one in runners:
            if one is kernel:
                bench.poison()
            one.times.append(turn_of(one, bench, quiet, device))
            if one is kernel:
                check(bench, chosen, one)
    if kernel.candidate.threads() > threads:
        raise Refused(
            f"the kernel started threads while it was timed: {threads} before, {kernel.candidate.threads()} after"
        )
    return {one.name: summary(one, device) for one in runners}


def turn_of(one: Runner, bench: Bench, quiet: float, device: bool) -> float:
    """Microseconds a call by this process's clock, less what asking costs."""
    if device:
        told = bench.told()
        if one.which == "raw":
            good(one.candidate.ask(60, do="again", sets=told["sets"]))
        _, hollow = one.candidate.timed(60, do="hollow", begin=0, end=bench.timed)
    one.candidate.timed(60, freeze=False, do="loop", which=one.which, begin=bench.timed, end=bench.timed + WARM)
    answer, took = one.candidate.timed(60, do="loop", which=one.which, begin=0, end=bench.timed)
    good(answer)
    if not device:
        return max(took - quiet, 0.0) / bench.timed * 1e6
    one.claims.append(statistics.median(answer["us"]))
    if one.which == "raw":
        good(one.candidate.ask(60, do="fetch", **{name: told[name] for name in ("sets", "outputs")}))
    return max(took - hollow, 0.0) / bench.timed * 1e6


def check(bench: Bench, chosen: list[int], kernel: Runner) -> None:
    if missing := bench.untouched():
        raise Refused(
            f"{missing} of {bench.timed} timed calls had not written their results when they said they were done"
        )
    for number in chosen:
        if wrong := bench.wrong(number):
            raise Refused(f"a timed call gave a wrong result: {wrong}")


def summary(one: Runner, device: bool) -> dict[str, float]:
    told = spread(one.claims if device else one.times)
    if device:
        wall = statistics.median(one.times)
        told["wall_us"] = round(wall, 2)
        if told["us"] < 0.6 * wall - 5.0:
            raise Refused(
                f"{one.name}: its own stream shows {told['us']:.1f} µs a call, the clock outside {wall:.1f}: "
                "the work is done elsewhere"
            )
    return told


def spread(times: list[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(times, n=4)
    middle = statistics.median(times)
    share = round((high - low) / middle, 3) if middle else 0.0
    return {"us": round(middle, 3), "spread": share, "best": round(min(times), 3)}


def good(answer: dict) -> dict:
    if not answer["ok"]:
        raise Refused(answer["refused"])
    return answer
