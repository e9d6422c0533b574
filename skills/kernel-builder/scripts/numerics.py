# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "triton==3.7.1", "kernels==0.17.2"]
# ///
"""State 4, numerics: is the kernel right? One float64 oracle and one case table for every device there is.

CPU build, its rows under the sanitizers, the CUDA source in the emulator, Triton in its interpreter, the GPU where
there is one. Then the kernel is broken on purpose: checks that let mutants live prove nothing. Seeds are always new.
"""

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cheats
import evidence
import torch
from arena import Arena
from candidate import Candidate, Died
from cases import Case, refusals, table
from emulate import DoesNotCompile, NotCovered, build_cuda, build_rows, only_float, sanitized, texts
from judge import Judge
from mutate import MOST, Mutant, mutants
from project import PATTERNS, Mistake, Project
from trial import Trial

SLOW_DEVICE = 60_000  # elements of a case in the emulator and the interpreter
ARENA = 1 << 28
ENOUGH = 0.8  # of the mutants must die; some may mean the same as the original


class Numerics:
    def __init__(self, project: Project, record: evidence.Record, mutants: int = MOST) -> None:
        self.project, self.record, self.wanted_mutants = project, record, mutants
        self.truth, self.schema = project.truth(), project.schema
        self.arena = Arena(ARENA)
        self.seed = int.from_bytes(os.urandom(6), "little")
        self.cases = list(table(self.truth, self.seed))
        self.small = [case for case in self.cases if case.elements <= SLOW_DEVICE]
        self.refusals = list(refusals(self.truth, self.schema, self.seed))
        self.answers: dict = {}
        self.work = project.work("numerics")

    def trial(self, truncated: tuple[torch.dtype, ...] = ()) -> Trial:
        return Trial(self.schema, self.arena, Judge(self.truth, truncated), answers=self.answers)

    def candidate(self, told: dict, env: dict[str, str] | None = None) -> Candidate:
        found = Candidate(told, self.arena, self.work / "scratch", env)
        if found.unconfined:
            self.record.find("warning", f"the kernel's process could not be kept from writing: {found.unconfined}")
        return found

    def part(self, name: str, label: str, check: Callable[[], tuple[str | None, dict]]) -> None:
        """One device: pass, fail with what is wrong, or not_run where the device cannot tell."""
        try:
            wrong, numbers = check()
        except NotCovered as reason:
            self.record.part(name, "not_run", reason=str(reason))
        except (Died, DoesNotCompile) as reason:
            self.record.part(name, "fail", label, str(reason))
        else:
            self.record.part(name, "fail" if wrong else "pass", label, wrong or "", **numbers)

    # devices

    def raw(
        self, told: dict, cases: list[Case], env=None, truncated=(), remarks: list[str] | None = None
    ) -> tuple[str | None, dict]:
        trial = self.trial(truncated)
        with self.candidate(told, env) as candidate:
            wrong = trial.run(candidate, cases) or trial.must_refuse(candidate, self.refusals)
        return wrong, {"cases": trial.tried, **trial.judge.numbers(), **noted(trial, remarks)}

    def package(self, variant: Path, device: str) -> tuple[str | None, dict]:
        """A built variant: raw op, refusals, public function, opcheck, one graph under torch.compile."""
        trial = self.trial()
        told = {"kind": "package", "project": str(self.project.folder), "variant": str(variant), "device": device}
        some = [case for case in self.cases if case.regular and case.elements <= 4096][:: max(1, len(self.cases) // 24)]
        with self.candidate(told) as candidate:
            wrong = (
                trial.run(candidate, self.cases)
                or trial.must_refuse(candidate, self.refusals)
                or trial.functions(candidate, some)
                or self.opcheck(trial, candidate, some)
                or trial.functions(candidate, some[-2:], "fullgraph", 120)
            )
        return wrong, {"cases": trial.tried, **trial.judge.numbers(), **noted(trial)}

    def opcheck(self, trial: Trial, candidate: Candidate, some: list[Case]) -> str | None:
        places, scalars = some[-1].lay(self.arena, self.schema)
        answer = candidate.ask(120, do="opcheck", tensors=[one.told() for one in places], scalars=scalars)
        return None if answer["ok"] else f"opcheck: {answer['refused']}"

    def emulated(self) -> tuple[str | None, dict]:
        source = self.project.cuda_source()
        library, remarks = build_cuda(source, self.schema, self.work, address=sanitized() is not None)
        return self.raw({"kind": "library", "path": str(library)}, self.small, sanitized(), remarks=remarks)

    def rows(self) -> tuple[str | None, dict]:
        source = next(iter(sorted((self.project.folder / f"{self.project.op}_cpu").glob("*_rows.h"))))
        library = build_rows(source, self.schema, self.work, address=sanitized() is not None)
        return self.raw({"kind": "library", "path": str(library)}, self.small, sanitized())

    def interpreted(self) -> tuple[str | None, dict]:
        told = {"kind": "triton", "source": str(self.project.triton_source())}
        return self.raw(told, self.small, {"TRITON_INTERPRET": "1"}, truncated=(torch.bfloat16,))

    def triton_on_gpu(self) -> tuple[str | None, dict]:
        told = {"kind": "triton", "source": str(self.project.triton_source()), "device": "cuda"}
        return self.raw(told, self.cases)

    # mutants

    def killed(self) -> tuple[str | None, dict]:
        source = self.project.cuda_source()
        pattern = self.project.spec.get("pattern")
        own = PATTERNS / pattern / "mutants.json" if pattern else None
        chosen = mutants(source, own, self.seed, self.wanted_mutants)
        dead, living, void = [], [], []
        with ThreadPoolExecutor(2) as pool:
            for mutant, library in pool.map(self.built, chosen):
                if library is None:
                    void.append(mutant.name)
                    continue
                how = self.death(mutant, library)
                dead.append(f"{mutant.name}: {how}") if how else living.append(mutant.name)
        total = len(dead) + len(living)
        numbers = {"killed": len(dead), "of": total, "survivors": living, "did_not_compile": void, "deaths": dead}
        if not total:
            raise NotCovered("no mutant of this source compiles")
        for name in living:
            self.record.find("warning", f"a mutant survives: {name}. Either it means the same, or no case looks there.")
        return (
            None
            if len(dead) >= ENOUGH * total
            else f"{len(living)} of {total} mutants survive: {'; '.join(living[:3])}"
        ), numbers

    def built(self, mutant: Mutant) -> tuple[Mutant, Path | None]:
        source = self.project.cuda_source()
        changed = texts(source.parent, "*.h", "*.cuh") | {mutant.file: mutant.text}
        try:
            return mutant, build_cuda(
                source, self.schema, self.work / "mutants", changed if mutant.all_types else only_float(changed)
            )[0]
        except (DoesNotCompile, NotCovered):
            return mutant, None

    def death(self, mutant: Mutant, library: Path) -> str | None:
        trial = self.trial()
        every = [case for case in self.small if mutant.all_types or case.dtype is torch.float32]
        with self.candidate({"kind": "library", "path": str(library)}) as candidate:
            return trial.run(candidate, every, 5)


def noted(trial: Trial, remarks: list[str] | None = None) -> dict:
    found = {"refuses": sorted({said.partition(": ")[2] for said in trial.refused})} if trial.refused else {}
    return found | ({"remarks": remarks} if remarks else {})


def check(project: Project, record: evidence.Record, mutants: int = MOST) -> None:
    work = Numerics(project, record, mutants)
    record.numbers["seed"] = work.seed
    record.numbers["memory_watched_by"] = "address sanitizer" if sanitized() else "guard pages"
    found = cheats.found(project)
    for one in found:
        record.find("error", one)
    record.part("source", "fail" if found else "pass", "computed", "; ".join(found[:2]), looked_for=cheats.LOOKED_FOR)

    has_cpu, has_cuda, has_triton = (
        bool(project.cpu_sources()),
        project.cuda_source() is not None,
        project.triton_source() is not None,
    )
    cpu, cuda = project.variant("cpu"), project.variant("cuda")
    gpu = torch.cuda.is_available()
    if has_cpu and cpu:
        work.part("CPU", "measured-CPU", lambda: work.package(cpu, "cpu"))
    elif has_cpu:
        record.part("CPU", "not_run", reason="there is no CPU build. Run compile.py first.")
    if has_cpu:
        work.part("CPU rows, memory watched", "measured-CPU", work.rows)
    if has_cuda:
        work.part("CUDA in the emulator", "emulated", work.emulated)
    if has_triton:
        work.part("Triton in the interpreter", "emulated", work.interpreted)
    if has_cuda and gpu and cuda:
        work.part("CUDA on the GPU", "measured-GPU", lambda: work.package(cuda, "cuda"))
    elif has_cuda:
        record.part(
            "CUDA on the GPU",
            "not_run",
            reason="there is no CUDA build. Run compile.py first." if gpu else "there is no GPU here",
        )
    if has_triton and gpu:
        work.part("Triton on the GPU", "measured-GPU", work.triton_on_gpu)
    elif has_triton:
        record.part("Triton on the GPU", "not_run", reason="there is no GPU here")
    if has_cuda and mutants:
        work.part("mutants", "emulated", work.killed)
    elif has_cuda:
        record.part("mutants", "not_run", reason="none were asked for")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--mutants", type=int, default=MOST, help=f"how many to try (default {MOST})")
    given = parser.parse_args(argv)
    try:
        project = Project.open(given.project)
        with evidence.recording("numerics", project.folder) as record:
            check(project, record, given.mutants)
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return evidence.told(given.project, "numerics")


if __name__ == "__main__":
    sys.exit(main())
