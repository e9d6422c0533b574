# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""State 8, report: report.md in the project from the evidence, every figure with how it is known.

Nothing is measured and nothing is upgraded here; evidence about an older state of the files is told as not run.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import evidence
from project import Mistake, Project

TITLES = {
    "spec": "1. Specified", "scaffold": "2. Scaffolded", "compile": "3. Compiled", "numerics": "4. Checked",
    "load": "5. Loaded", "microbench": "6. Timed by itself", "endtoend": "7. In the whole model",
    "publish": "9. Published",
}  # fmt: skip
FROM_FILES = ["compile", "numerics", "load", "microbench", "endtoend", "publish"]
LEGEND = {
    "measured-GPU": "ran on a GPU of the kind that is named",
    "measured-CPU": "ran on this machine's processor",
    "emulated": "the GPU source, executed on the processor",
    "compiled-only": "compiled and read, never executed",
    "computed": "follows from files and data sheets",
    "not run": "nothing is known yet",
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--print", action="store_true", dest="shown", help="print the report as well")
    given = parser.parse_args(argv)
    try:
        project = Project.open(given.project)
        with evidence.recording("report", project.folder) as record:
            text = report(project, record)
            (project.folder / "evidence" / "report.md").write_text(text, encoding="utf-8")
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.shown:
        print(text)
    return evidence.told(given.project, "report")


def report(project: Project, record: evidence.Record) -> str:
    found = {state: current(project, state) for state in TITLES}
    ran = {state: one for state, one in found.items() if one is not None}
    verdict, why = overall(found)
    counts = {label: 0 for label in evidence.LABELS}
    for one in ran.values():
        for part in one["parts"]:
            counts[part["label"]] += 1
    record.numbers = {"verdict": verdict, "why": why, "labels": counts}
    record.part("report.md", "pass", "computed", states=len(ran), verdict=verdict)
    lines = [*head(project, verdict, why), *asked(project), *states(found), *details(ran), *open_ends(project, found)]
    return "\n".join(lines) + "\n"


def current(project: Project, state: str) -> dict[str, Any] | None:
    """A state's evidence; None if there is none for the files as they are."""
    found = evidence.read(project.folder, state)
    if found and state in FROM_FILES and found.get("tree") != evidence.tree(project.folder):
        return None
    return found


def overall(found: dict[str, dict[str, Any] | None]) -> tuple[str, str]:
    failed = [state for state, one in found.items() if one and one["status"] == "fail"]
    if failed:
        return "NOT READY", "; ".join(f"{state}: {found[state]['reason'][:200]}" for state in failed)  # type: ignore[index]
    needed = ["spec", "scaffold", "compile", "numerics", "load"]
    if missing := [state for state in needed if (found[state] or {}).get("status") != "pass"]:
        return "UNPROVEN", f"not run: {', '.join(missing)}"
    labels = {part["label"] for one in found.values() if one for part in one["parts"] if part["status"] == "pass"}
    if "measured-GPU" in labels:
        return "PROVEN ON A GPU", "every state that ran on the GPU passed"
    return (
        "CHECKED WITHOUT A GPU",
        "right as far as a processor can show; nothing is known about its speed on the target",
    )


def head(project: Project, verdict: str, why: str) -> list[str]:
    spec = project.spec
    about = f" for {spec['model']['id']}" if spec["model"] else ""
    return [f"# {spec['title']}{about} on {spec['target']['name']}: {project.name}", "", f"**{verdict}**: {why}.", ""]


def asked(project: Project) -> list[str]:
    """The spec in figures."""
    spec, card = project.spec, project.spec["target"]
    lines = [
        "## What was asked",
        "",
        f"`{spec['schema']}`, {', '.join(spec['dtypes'])}; the model runs in {spec['dtype']}.",
    ]
    if model := spec["model"]:
        lines.append(f"{model['id']} ({model['source']}) has {model['expected']} modules that it replaces.")
    sheet = (
        f"{card['bandwidth']} TB/s, {card['flops']} TFLOP/s by its data sheet"
        if card.get("bandwidth")
        else "no data sheet"
    )
    lines += [f"Target: {card['name']}, {card['arch']} ({sheet}).", ""]
    lines += ["| phase | size | modules | bytes a call | shortest possible time (computed) |", "|---|---|---|---|---|"]
    for one in spec["sizes"]:
        bound = f"{one['bound_us']:g} µs" if one["bound_us"] is not None else "unknown"
        size = ", ".join(f"{key} {value}" for key, value in one["size"].items())
        lines.append(f"| {one['phase']} | {size} | {one['count'] or ''} | {one['cost']['bytes']:,} | {bound} |")
    return [*lines, ""]


def states(found: dict[str, dict[str, Any] | None]) -> list[str]:
    lines = ["## States", "", "| state | outcome | how it is known | seconds | why |", "|---|---|---|---|---|"]
    for state, title in TITLES.items():
        one = found[state]
        if one is None:
            lines.append(f"| {title} | not_run | not run | | not run for these files |")
            continue
        labels = [label for label in evidence.LABELS if any(part["label"] == label for part in one["parts"])]
        lines.append(f"| {title} | {one['status']} | {', '.join(labels)} | {one['seconds']} | {plain(one['reason'])} |")
    return [
        *lines,
        "",
        "How a figure is known: " + "; ".join(f"*{key}* {value}" for key, value in LEGEND.items()) + ".",
        "",
    ]


def details(ran: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for state, one in ran.items():
        lines += [f"## {TITLES[state]}", ""]
        lines += ["| what | outcome | how it is known | figures |", "|---|---|---|---|"]
        for part in one["parts"]:
            told = "; ".join(filter(None, [part["reason"], figures(part["numbers"])]))
            lines.append(f"| {part['name']} | {part['status']} | {part['label']} | {plain(told)} |")
        for table in one["numbers"].get("tables", []):
            lines += ["", f"**{table['title']}** ({table['label']})", ""]
            lines += ["| " + " | ".join(map(str, table["columns"])) + " |", "|" + "---|" * len(table["columns"])]
            lines += ["| " + " | ".join(plain(str(value)) for value in row) + " |" for row in table["rows"]]
        lines += ["", *(f"- {note['level']}: {plain(note['text'], 600)}" for note in one["findings"]), ""]
    return lines


def figures(numbers: dict[str, Any]) -> str:
    shown = []
    for name, value in numbers.items():
        if isinstance(value, float):
            value = f"{value:.4g}"
        shown.append(f"{name} {value if not isinstance(value, dict | list) else json.dumps(value)}")
    return ", ".join(shown)


def plain(text: str, most: int = 400) -> str:
    """Fit for a cell of a table."""
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def open_ends(project: Project, found: dict[str, dict[str, Any] | None]) -> list[str]:
    lines = ["## Not run", ""]
    for state, one in found.items():
        waiting = [part for part in (one or {"parts": []})["parts"] if part["status"] == "not_run"]
        lines += [f"- {state}, {part['name']}: {part['reason']}" for part in waiting]
        lines += [f"- {state}: not run for these files"] if one is None else []
    lines += [
        "",
        "On a machine with the target's GPU, nvcc and a CUDA build of torch the same command fills these:",
        "",
    ]
    lines += ["```bash", f"python skills/kernel-builder/scripts/verify.py {project.folder.name}", "```", ""]
    machine = next((one for one in reversed(list(found.values())) if one), None)
    if machine:
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        device = machine["device"]
        lines += [
            f"Made on {device['cpu'] or device['machine']}, GPU: {device['gpu'] or 'none'}.",
            f"Versions: {versions}.",
        ]
    if not project.spec["pattern"]:
        lines += ["", "The oracle was written together with this kernel. Read it before you trust the checks:", ""]
        lines += ["```python", project.sources()["oracle.py"].read_text(encoding="utf-8").rstrip(), "```"]
    return lines


if __name__ == "__main__":
    sys.exit(main())
