# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.22.2", "kernels==0.17.2"]
# ///
"""State 5, load: in a fresh process, as a user of the Hub would, from the local build; then in a model of the target's
architecture, where the forwards that were really replaced must be as many as the spec expects.

Needs a build (state 3). Runs on the CPU, and on the GPU where one is.
"""

import argparse
import json
import sys
from pathlib import Path

import evidence
from project import Mistake, Project
from tools_here import run

CHILD = Path(__file__).parent / "load_here.py"
LABELS = {"cpu": "measured-CPU", "cuda": "measured-GPU"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    given = parser.parse_args(argv)
    try:
        project = Project.open(given.project)
        with evidence.recording("load", project.folder) as record:
            for backend in LABELS:
                load(project, backend, record)
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return evidence.told(given.project, "load")


def load(project: Project, backend: str, record: evidence.Record) -> None:
    variant = project.variant(backend)
    if variant is None:
        reason = "no build for it here: run compile.py" if backend == "cpu" else "no CUDA build: no GPU or no nvcc here"
        record.part(backend, "not_run", reason=reason)
        return
    record.part(f"{backend} digest", *digest(variant))
    env = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(CHILD.parent)}
    done = run(sys.executable, CHILD, project.folder, backend, env=env)
    lines = done.text.strip().splitlines()
    if done.code or not lines or not lines[-1].startswith("{"):
        record.part(backend, "fail", LABELS[backend], done.first_error)
        record.find("error", done.text[-3000:])
        return
    for name, told in json.loads(lines[-1]).items():
        status, reason = told.pop("status"), told.pop("reason", "")
        record.part(f"{backend} {name}", status, LABELS[backend], reason, **told)


def digest(variant: Path) -> tuple[str, str, str]:
    """The loader does not look at it, so we do."""
    from kernels._rust import Digest, DigestAlgorithm, DigestValidationError, Metadata

    expected = Metadata.read_from_file(variant / "metadata.json").digest
    if expected is None:
        return "fail", "computed", "metadata.json has no digest"
    try:
        expected.validate(Digest.hash_variant(DigestAlgorithm.SHA256, str(variant)))
    except DigestValidationError as error:
        return "fail", "computed", "; ".join(map(str, error.violations))[:300]
    return "pass", "computed", ""


if __name__ == "__main__":
    sys.exit(main())
