"""`skills check`: run a skill's eval cases, each once in a session of its own, and say which checks hold.

The skill is called by name, so that what it says is judged and not whether it is found. One run of each case is no
measurement of a model: it shows what works and what does not.
"""

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import UserError

if TYPE_CHECKING:
    from agent.sandbox.open import Sandbox
    from agent.settings import Settings
    from agent.skills import Skill
    from agent.skills.cases import Case
    from agent.store import Store

FAILED = 1
MAX_MINUTES, MAX_STEPS = 15.0, 20


@dataclass(frozen=True)
class Inside:
    """A session's sandbox as checks see it."""

    sandbox: "Sandbox"

    def run(self, line: str) -> tuple[int, str, str]:
        return self.sandbox.command(line, timeout=600)

    def read(self, path: str) -> str | None:
        files = self.sandbox.remote.files
        return files.read(path) if files.exists(path) else None

    def write(self, path: str, text: str) -> None:
        self.sandbox.remote.files.write(path, text)


def check(args: argparse.Namespace) -> int:
    from agent.cli.opening import open_store
    from agent.settings import load_settings
    from agent.skills import Skills
    from agent.skills.cases import load_cases

    limits = {"max_minutes": args.max_minutes or MAX_MINUTES, "max_steps": args.max_steps or MAX_STEPS}
    settings = load_settings(model=args.model, **limits)
    skill = Skills.discover(Path.cwd(), settings.home).get(args.name)
    cases = [case for case in load_cases(skill.folder) if case.id in (args.case or [case.id])]
    if unknown := set(args.case or []) - {case.id for case in cases}:
        raise UserError(f"{skill.name} has no case {', '.join(sorted(unknown))}. See {skill.folder}/evals/evals.json.")
    rows = []
    with open_store(settings) as store:
        for case in cases:
            rows.append(run_case(skill, case, settings, store))
            if not args.json:
                print(told(rows[-1]), flush=True)
    held = sum(row["holds"] for row in rows)
    if args.json:
        print(json.dumps({"skill": skill.name, "cases": rows, "held": held, "of": len(rows)}, indent=2))
    else:
        print(f"{skill.name}: {held} of {len(rows)} cases hold")
    return 0 if held == len(rows) else FAILED


def run_case(skill: "Skill", case: "Case", settings: "Settings", store: "Store") -> dict[str, Any]:
    """One turn in an empty folder, then the checks in the sandbox it left."""
    from agent.policy import Mode
    from agent.session import Session
    from agent.skills.cases import judge

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="case-") as folder:
        copied = Path(folder) / ".agents" / "skills" / skill.name
        shutil.copytree(skill.folder, copied, ignore=shutil.ignore_patterns("evals", "__pycache__"))
        files = [Path(shutil.copy(path, folder)) for path in case.files]
        title = f"skills check {skill.name} {case.id}"
        session = Session.start(settings, store, mode=Mode.YES, attended=False, cwd=Path(folder), title=title)
        try:
            outcome = session.run(f"/{skill.name} {case.prompt}", files)
            findings = judge(case, text_of(outcome.answer), Inside(session.executor.ready()))
        finally:
            session.executor.cleanup()
            session.close()
    return {
        "id": case.id,
        "holds": outcome.state == "succeeded" and bool(findings) and all(finding.holds for finding in findings),
        "state": outcome.state,
        "reason": outcome.reason,
        "seconds": round(time.monotonic() - started, 1),
        "session": session.id,
        "checks": [asdict(finding) for finding in findings],
    }


def text_of(answer: Any) -> str:
    """The answer as a person would read it."""
    from tools.envelope import markdown_of

    if isinstance(answer, dict) and "type" in answer:
        return markdown_of(answer)
    return answer if isinstance(answer, str) else json.dumps(answer, default=str)


def told(row: dict[str, Any]) -> str:
    held = sum(finding["holds"] for finding in row["checks"])
    lines = [f"{row['id']}: {held} of {len(row['checks'])} checks hold ({row['state']}, {row['seconds']} s)"]
    if row["reason"]:
        lines.append(f"  {row['state']}: {row['reason']}")
    lines += [f"  {one['kind']}: {one['what']}: {one['why']}" for one in row["checks"] if not one["holds"]]
    return "\n".join(lines)
