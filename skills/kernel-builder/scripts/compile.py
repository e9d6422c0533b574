# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "triton==3.7.1", "kernels==0.17.2"]
# ///
"""State 3, compile: the CPU build, CUDA for every architecture this nvcc knows, Triton for the target.

Refuses spills, local memory and narrow loads; what needs a compiler that is not here is not_run with the reason.
"""

import argparse
import shutil
import sys
from pathlib import Path

import build_cpu
import build_cuda
import build_triton
import evidence
from project import Mistake, Project


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="while you work on one of them")
    given = parser.parse_args(argv)
    try:
        project = Project.open(given.project)
        with evidence.recording("compile", project.folder) as record:
            shutil.rmtree(project.folder / "build", ignore_errors=True)
            for name, build in PARTS.items():
                if name in given.only:
                    build(project, record)
                else:
                    record.part(name, "not_run", reason="it was not asked for")
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return evidence.told(given.project, "compile")


def hip(project: Project, record: evidence.Record) -> None:
    """The HIP text is made by renaming; only a ROCm machine can say whether it compiles."""
    if project.there(f"{project.op}_hip"):
        here = shutil.which("hipcc")
        reason = "translated text; its build is kernel-builder's" if here else "translated text; no hipcc here"
        record.part("hip", "not_run", reason=reason)


PARTS = {"cpu": build_cpu.build, "cuda": build_cuda.build, "hip": hip, "triton": build_triton.build}


if __name__ == "__main__":
    sys.exit(main())
