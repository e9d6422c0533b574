# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "kernels==0.17.2"]
# ///
"""State 2, scaffold: a whole project in kernel-builder's layout from the spec and its sources, committed to git.

Checks what the Hub would refuse: the upstream parser of build.toml, sources that are missing, forbidden constructs. A
file that is already there and differs is kept, unless --anew.
"""

import argparse
import json
import sys
from pathlib import Path

import evidence
import render
import rules
from project import Mistake, Project, git


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--anew", action="store_true", help="write files again that were changed by hand")
    given = parser.parse_args(argv)
    try:
        project = Project.open(given.project)
        with evidence.recording("scaffold", project.folder) as record:
            scaffold(project, given.anew, record)
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return evidence.told(given.project, "scaffold")


def scaffold(project: Project, anew: bool, record: evidence.Record) -> None:
    sources = complete(project)
    project.truth()  # still the oracle of the spec
    written, kept = write(project, render.files(project, sources), anew)
    if kept:
        record.find("note", f"changed by hand and kept: {', '.join(kept)}")
    commit(project)
    parts = {
        "cpu": bool(project.cpu_sources()),
        "cuda": project.cuda_source() is not None,
        "hip": project.there(f"{project.op}_hip") is not None,
        "triton": project.triton_source() is not None,
    }
    record.part(
        "layout", "pass", "computed", written=len(written), sources=[name for name, here in parts.items() if here]
    )
    for toml in filter(Path.exists, (project.folder / "build.toml", project.folder / "triton" / "build.toml")):
        accepted(toml, record)
    broken = rules.violations(project.folder, project.py_name)
    for one in broken:
        record.find("error", one)
    record.part("rules", "fail" if broken else "pass", "computed", "; ".join(broken[:3]))
    dirty = git(project.folder, "status", "--porcelain").strip()
    record.part("committed", "fail" if dirty else "pass", "computed", dirty[:200], tree=project.tree_hash())


def complete(project: Project) -> dict[str, Path]:
    """The sources, once what belongs together is there."""
    found = project.sources()
    for needs, needed in (("kernel.cuh", "arguments.h"), ("rows.h", "arguments.h")):
        if needs in found and needed not in found:
            raise Mistake(f"{needs} needs {needed} beside it: what the op refuses, and how its work divides.")
    if not {"kernel.cuh", "rows.h", "triton_kernel.py"} & set(found):
        raise Mistake("There is no kernel: give kernel.cuh, rows.h or triton_kernel.py.")
    if "functions.py" not in found:
        raise Mistake(f"functions.py is missing: it defines {project.op}(...) for people and registers the fake.")
    return found


def write(project: Project, files: dict[str, str], anew: bool) -> tuple[list[str], list[str]]:
    written, kept = [], []
    made = project.work("scaffold") / "made.json"  # what stood there when it was ours
    before = json.loads(made.read_text()) if made.exists() else {}
    for name, content in files.items():
        path = project.folder / name
        if path.exists():
            now = path.read_text(encoding="utf-8")
            if now == content:
                continue
            if not anew and now != before.get(name):
                kept.append(name)
                continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        written.append(name)
    for name in before.keys() - files.keys():
        (project.folder / name).unlink(missing_ok=True)
    made.write_text(json.dumps(files), encoding="utf-8")
    return written, kept


def commit(project: Project) -> None:
    folder = project.folder
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    if git(folder, "status", "--porcelain").strip():
        git(folder, "commit", "-q", "-m", f"Write {project.name}")


def accepted(toml: Path, record: evidence.Record) -> None:
    """By the parser that the Hub's own builder uses, and by what it leaves unsaid."""
    name = "triton/build.toml" if toml.parent.name == "triton" else "build.toml"
    try:
        from kernels._rust import Build
    except ImportError:
        record.part(name, "not_run", reason="the kernels package is not installed")
        return
    try:
        Build.open(str(toml.parent))
    except Exception as error:  # the parser's own errors have no common class
        said = " ".join(str(error).split())[:300]
        record.part(name, "fail", "computed", f"the parser of kernels refuses it: {said}")
        return
    missing = rules.of_build_toml(toml)
    record.part(name, "fail" if missing else "pass", "computed", "; ".join(missing))


if __name__ == "__main__":
    sys.exit(main())
