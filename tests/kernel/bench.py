"""The judge of kernels as tests use it: a worked pattern, changed or not, before the case table.

Loads the skill's own programs; kernels run in their worker process as they do in a project.
"""

import os
import shutil
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
SKILL = ROOT / "skills" / "kernel-builder"
PATTERNS = SKILL / "patterns"
sys.path.insert(0, str(SKILL / "scripts"))

from arena import Arena  # noqa: E402
from candidate import Candidate, Died  # noqa: E402
from cases import Case, refusals, table  # noqa: E402
from emulate import DoesNotCompile, build_cuda, build_rows, only_float, texts  # noqa: E402
from judge import Judge  # noqa: E402
from project import load_module  # noqa: E402
from schema import parse  # noqa: E402
from trial import Trial  # noqa: E402

SMALL = 20_000


class Stage:
    """One pattern's truth and sources in a folder of its own."""

    def __init__(self, pattern: str, folder: Path) -> None:
        self.folder = folder / pattern
        self.folder.mkdir(parents=True)
        for path in [*(PATTERNS / "common").iterdir(), *(PATTERNS / pattern).iterdir()]:
            if path.suffix in (".h", ".cuh", ".py"):
                shutil.copy(path, self.folder)
        self.truth = load_module("oracle", PATTERNS / pattern / "oracle.py")
        self.schema = parse(self.truth.SCHEMA)
        self.arena = Arena(1 << 26)

    def changed(self, file: str, *changes: tuple[str, str]) -> "Stage":
        text = (self.folder / file).read_text()
        for old, new in changes:
            assert text.count(old) >= 1, f"{file} has no {old!r}"
            text = text.replace(old, new)
        (self.folder / file).write_text(text)
        return self

    def cases(self, dtypes: list[str]) -> list[Case]:
        every = table(self.truth, int.from_bytes(os.urandom(4), "little"), dtypes)
        return [case for case in every if case.elements <= SMALL]

    def cuda(self, dtypes: list[str] | None = None) -> str | None:
        """None, or what the judge says of kernel.cuh in the emulator."""
        return self.library(
            build_cuda(self.folder / "kernel.cuh", self.schema, self.folder / "w", self.sources(dtypes))[0], dtypes
        )

    def rows(self, dtypes: list[str] | None = None) -> str | None:
        return self.library(build_rows(self.folder / "rows.h", self.schema, self.folder / "w"), dtypes)

    def sources(self, dtypes: list[str] | None) -> dict[str, str]:
        told = texts(self.folder, "*.h", "*.cuh")
        return only_float(told) if dtypes == ["float32"] else told

    def library(self, path: Path, dtypes: list[str] | None) -> str | None:
        return self.judged({"kind": "library", "path": str(path)}, dtypes)

    def triton(self, dtypes: list[str] | None = None) -> str | None:
        told = {"kind": "triton", "source": str(self.folder / "triton_kernel.py")}
        return self.judged(told, dtypes, {"TRITON_INTERPRET": "1"}, (torch.bfloat16,))

    def judged(
        self, told: dict, dtypes: list[str] | None, env: dict | None = None, truncated: tuple = ()
    ) -> str | None:
        trial = Trial(self.schema, self.arena, Judge(self.truth, truncated))
        try:
            with Candidate(told, self.arena, self.folder / "scratch", env) as candidate:
                wrong = trial.run(candidate, self.cases(dtypes or self.truth.DTYPES), 20)
                seed = int.from_bytes(os.urandom(4), "little")
                return wrong or trial.must_refuse(candidate, refusals(self.truth, self.schema, seed))
        except (Died, DoesNotCompile) as died:
            return str(died)
