"""A candidate before the case table: each case laid out, called, read back as bytes and judged.

Nothing but the outputs may change. Stops at the first wrong result and says which case and how.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from arena import Arena, Place
from candidate import Candidate, Died
from cases import Case
from judge import Expected, Judge, expect
from schema import Schema

UNCOVERED = "not covered"  # how the emulator begins when it, not the kernel, is at its end


class NotCovered(Exception):
    """The device cannot tell."""


@dataclass
class Trial:
    schema: Schema
    arena: Arena
    judge: Judge
    tried: int = 0
    refused: list[str] = field(default_factory=list)
    answers: dict[int, Expected] = field(default_factory=dict)  # shared by devices: the oracle is asked once a case

    def run(self, candidate: Candidate, cases: Iterable[Case], seconds: float = 60) -> str | None:
        """None, or what is wrong with the raw op."""
        for case in cases:
            try:
                wrong = self.one(candidate, case, seconds)
            except Died as died:
                return f"{case.name}: {died}"
            if wrong:
                return f"{case.name}: {wrong}"
        return self.judge.shares()

    def one(self, candidate: Candidate, case: Case, seconds: float) -> str | None:
        expected = self.expected(case)
        places, scalars = case.lay(self.arena, self.schema)
        before = self.arena.picture()
        answer = candidate.ask(seconds, do="call", tensors=[one.told() for one in places], scalars=scalars)
        self.tried += 1
        if not answer["ok"]:
            said = answer["refused"]
            if said.startswith(f"EMULATOR: {UNCOVERED}"):
                raise NotCovered(said)
            if case.may_refuse and not said.startswith("EMULATOR"):
                self.refused.append(f"{case.name}: {said}")
                return self.untouched(places, before)
            return said
        return self.read(case, places, expected) or self.untouched(places, before)

    def expected(self, case: Case) -> Expected:
        known = self.answers.get(id(case))
        if known is None and case.belongs is not None:
            known = self.answers[id(case)] = Expected([case.belongs.double()], [case.belongs], [case.belongs.double()])
        elif known is None:
            known = self.answers[id(case)] = expect(self.judge.truth, case.arguments, case.outputs, case.dtype)
        return known

    def read(self, case: Case, places: list[Place], expected: Expected) -> str | None:
        pairs = zip(self.schema.tensors, places, strict=True)
        outputs = [(where, case.outputs[one.name].dtype) for one, where in pairs if one.out]
        got = [self.arena.view(where, dtype).clone() for where, dtype in outputs]
        for where, dtype in outputs:
            self.arena.poison(where, dtype)
        return self.judge.compare(got, expected, case.regular)

    def untouched(self, places: list[Place], before: torch.Tensor) -> str | None:
        if not self.arena.disturbed(before):
            return None
        changed = int((self.arena.bytes[: before.numel()] != before).nonzero()[0])
        for one, where in zip(self.schema.tensors, places, strict=True):
            if where.offset <= changed < where.offset + 1 + extent(where):
                return (
                    f"it changed {one.name}, which it may only read"
                    if not one.out
                    else f"it wrote between the rows of {one.name}"
                )
        return "it wrote outside its tensors"

    def functions(
        self, candidate: Candidate, cases: Iterable[Case], do: str = "function", seconds: float = 60
    ) -> str | None:
        """The same for the public function, which returns its outputs."""
        for case in cases:
            expected = self.expected(case)
            places, scalars = case.lay(self.arena, self.schema)
            before = self.arena.picture()
            split = {True: [], False: []}
            for one, where in zip(self.schema.tensors, places, strict=True):
                split[one.out].append(where.told())
            try:
                answer = candidate.ask(seconds, do=do, inputs=split[False], outputs=split[True], scalars=scalars)
            except Died as died:
                return f"{do}, {case.name}: {died}"
            self.tried += 1
            wrong = answer.get("refused") or self.read(case, places, expected) or self.untouched(places, before)
            if wrong:
                return f"{do}, {case.name}: {wrong}"
        return None

    def must_refuse(self, candidate: Candidate, cases: Iterable[Case]) -> str | None:
        for case in cases:
            places, scalars = case.lay(self.arena, self.schema)
            before = self.arena.picture()
            try:
                answer = candidate.ask(do="call", tensors=[one.told() for one in places], scalars=scalars)
            except Died as died:
                return f"{case.name}: {died}"
            self.tried += 1
            if answer["ok"]:
                return f"{case.name}: accepted, must be refused"
            if answer["refused"].startswith("EMULATOR"):
                return f"{case.name}: {answer['refused']}"
            if wrong := self.untouched(places, before):
                return f"{case.name}: refused, but {wrong}"
        return None


def extent(where: Place) -> int:
    size = [4, 2, 2, 8, 4, 8, 1, 1][where.dtype]
    return (
        size * (1 + sum((n - 1) * step for n, step in zip(where.shape, where.stride, strict=True)))
        if 0 not in where.shape
        else 0
    )
