"""`skills`: list and show them, check them by the standard and by their cases, add, remove, start and pack them.

Only the arguments are read and the outcome is shown here; the work is done in `agent.skills`.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.flags import count, positive
from agent.errors import UserError

if TYPE_CHECKING:
    from agent.skills import Skill, Skills
    from agent.skills.install import Look

INVALID = 1


def add(commands: Any) -> None:
    skills = commands.add_parser("skills", help="know-how in SKILL.md folders: list, show, add, validate, pack")
    verbs = skills.add_subparsers(title="verbs", metavar="VERB", required=True)

    verb = verbs.add_parser("list", help="the skills found from here, and what is wrong with others")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=show_list)

    verb = verbs.add_parser("show", help="one skill: its facts, files and text, or one of its files")
    verb.add_argument("name")
    verb.add_argument("file", nargs="?", help="a file of the skill, by its path in it")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=show)

    verb = verbs.add_parser("validate", help="check skills strictly by the written standard")
    verb.add_argument("folders", metavar="FOLDER", nargs="+", type=Path, help="a skill, or a folder of skills")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=validate)

    verb = verbs.add_parser("check", help="run a skill's eval cases once each and say which checks hold")
    verb.add_argument("name")
    verb.add_argument("--case", metavar="ID", action="append", help="only this case; may be given again")
    verb.add_argument("--model", metavar="SPEC", help="auto, recipes, a URL, ollama/NAME, hf/ORG/NAME, …")
    verb.add_argument("--max-minutes", type=positive, metavar="N", help="end a case after so long (default: 15)")
    verb.add_argument("--max-steps", type=count, metavar="N", help="end a case after so many steps (default: 20)")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=check)

    add_changes(verbs)


def add_changes(verbs: Any) -> None:
    verb = verbs.add_parser(
        "add",
        help="install a skill from a folder, archive, git address or Hub repository",
        description="Shows what the skill would bring and asks, then copies it into the home folder. It is used on its "
        "own accord only once it is trusted; until then /name calls it.",
    )
    verb.add_argument(
        "source", help="FOLDER, FILE.zip, FILE.tar.gz, https://….git, file://…, hf://[datasets/]owner/name"
    )
    verb.add_argument("--path", default="", help="where in the source the skill lies, if it holds several")
    verb.add_argument("--revision", help="a branch, tag or commit of a git or Hub repository")
    verb.add_argument("--yes", action="store_true", help="do not ask")
    verb.add_argument("--trust", action="store_true", help="trust it from the start")
    verb.add_argument("--json", action="store_true", help="print JSON; needs --yes")
    verb.set_defaults(run=add_skill)

    verb = verbs.add_parser("trust", help="let skills of a project, or added ones, be used on their own accord")
    verb.add_argument("names", metavar="NAME", nargs="+")
    verb.set_defaults(run=trust)

    verb = verbs.add_parser("remove", help="delete a skill from the home folder")
    verb.add_argument("name")
    verb.add_argument("--yes", action="store_true", help="do not ask")
    verb.set_defaults(run=remove)

    verb = verbs.add_parser("new", help="write the skeleton of a skill")
    verb.add_argument("name")
    verb.add_argument("--into", type=Path, default=Path("skills"), help="folder to write it to (default: %(default)s)")
    verb.add_argument("--description", default="", help="what it does and when to use it")
    verb.set_defaults(run=new)

    verb = verbs.add_parser("pack", help="write the manifests by which other agents take the skills of a project")
    verb.add_argument(
        "root", nargs="?", type=Path, default=Path(), help="the folder that holds skills/ (default: here)"
    )
    verb.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    for option in ("name", "version", "description", "owner"):
        verb.add_argument(f"--{option}", help="instead of what pyproject.toml says")
    verb.set_defaults(run=pack)


def discovered() -> "Skills":
    from agent.settings import load_settings
    from agent.skills import Skills

    return Skills.discover(Path.cwd(), load_settings().home)


def facts(skill: "Skill") -> dict[str, Any]:
    from agent.skills.install import origin

    return {
        "name": skill.name,
        "description": skill.description,
        "folder": str(skill.folder),
        "source": skill.source,
        "trusted": skill.trusted,
        "warnings": skill.warnings,
        "allowed_tools": list(skill.allowed_tools),
        "license": skill.license,
        "compatibility": skill.compatibility,
        "metadata": skill.metadata,
        "origin": origin(skill),
    }


def show_list(args: argparse.Namespace) -> int:
    from agent.cli.view.result import fitted
    from agent.skills.install import harmless

    skills = discovered()
    problems = [{"folder": str(problem.folder), "why": problem.why} for problem in skills.problems]
    if args.json:
        shadowed = [facts(skill) for skill in skills.shadowed]
        listed = {"skills": [facts(skill) for skill in skills.all], "shadowed": shadowed, "problems": problems}
        print(json.dumps(listed, indent=2))
        return 0
    width = max((len(skill.name) for skill in skills.all), default=0)
    for skill in skills.all:
        about = f"{skill.name:<{width}}  {skill.source:<8}  {mark(skill):<9}  {brief(skill.description)}"
        print(fitted(harmless(about)))
    for skill in [*skills.all, *skills.shadowed]:
        for warning in skill.warnings:
            print(harmless(f"warning: {skill.name} ({skill.folder}): {warning}"), file=sys.stderr)
    for problem in problems:
        print(harmless(f"refused: {problem['folder']}: {problem['why']}"), file=sys.stderr)
    return 0


def mark(skill: "Skill") -> str:
    return "trusted" if skill.trusted else "untrusted"


def brief(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def show(args: argparse.Namespace) -> int:
    from agent.skills.files import listing

    skills = discovered()
    skill = skills.get(args.name)
    if args.file:
        print(skills.read(skill, args.file))
        return 0
    whole = facts(skill) | {"files": listing(skill.folder), "body": skills.body(skill)}
    if args.json:
        print(json.dumps(whole, indent=2))
        return 0
    for name, fact in whole.items():
        if name != "body" and fact not in ("", None, [], {}):
            print(f"{name}: {', '.join(fact) if isinstance(fact, list) else fact}")
    print(f"\n{whole['body']}")
    return 0


def validate(args: argparse.Namespace) -> int:
    from agent.skills.find import children
    from agent.skills.read import Verdict, check, has_skill

    verdicts: dict[str, Verdict] = {}
    for folder in args.folders:
        inner = [] if has_skill(folder) else [child for child in children(folder) if has_skill(child)]
        verdicts |= {str(one): check(one) for one in inner or [folder]}
    bad = sum(bool(verdict.errors) for verdict in verdicts.values())
    if args.json:
        print(json.dumps({folder: asdict(verdict) for folder, verdict in verdicts.items()}, indent=2))
    for folder, verdict in {} if args.json else verdicts.items():
        print(f"{folder}: {'invalid' if verdict.errors else 'valid'}")
        for kind, texts in asdict(verdict).items():
            for text in texts:
                print(f"  {kind.removesuffix('s')}: {text}")
    return INVALID if bad else 0


def check(args: argparse.Namespace) -> int:
    from agent.cli.skills_check import check as run_cases

    return run_cases(args)


def add_skill(args: argparse.Namespace) -> int:
    if args.json and not args.yes:
        raise UserError("--json cannot ask. Give --yes too.")
    from agent.settings import load_settings
    from agent.skills.fetch import bring
    from agent.skills.install import install, look

    settings = load_settings()
    with bring(args.source, settings, args.revision, args.path) as brought:
        seen = look(brought.folder)
        if not args.json:
            print(described(seen, brought.revision))
        if not args.yes and not agreed(f"Install {seen.name}?"):
            print("Nothing was installed.")
            return 0
        skill = install(brought, settings.home, trusted=args.trust)
    if args.json:
        print(json.dumps(facts(skill) | {"look": asdict(seen)}, indent=2))
        return 0
    print(f"Installed {skill.name} in {skill.folder}, {mark(skill)}.")
    if not skill.trusted:
        print(f"Until you trust it (python -m agent skills trust {skill.name}), only /{skill.name} calls it.")
    return 0


def described(seen: "Look", revision: str | None) -> str:
    rows = [f"{seen.name}: {seen.description}"]
    if revision:
        rows.append(f"revision: {revision}")
    if seen.allowed_tools:
        rows.append(f"asks to use without further approval: {', '.join(seen.allowed_tools)}")
    rows += [f"  {size:>9,}  {path}{'  (script)' if path in seen.scripts else ''}" for path, size in seen.files]
    for path, first in {"SKILL.md": seen.body, **seen.scripts}.items():
        rows += [f"{path} begins:", *(f"  | {line}" for line in first)]
    rows += [f"breaks the standard: {text}" for text in seen.errors]
    rows += [f"warning: {text}" for text in seen.warnings]
    return "\n".join(rows)


def agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody can be asked here. Give --yes to agree beforehand.")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def trust(args: argparse.Namespace) -> int:
    from agent.settings import load_settings
    from agent.skills import trust as trusted
    from agent.skills.files import digest

    skills, home = discovered(), load_settings().home
    for name in args.names:
        skill = next((skill for skill in skills.candidates(name) if not skill.trusted), None)
        if skill is None:
            print(f"{skills.get(name).name} is trusted already.")
            continue
        trusted.add(home, skill.name, digest(skill.folder))
        print(f"{skill.name} in {skill.folder} is trusted as long as its files stay as they are.")
    return 0


def remove(args: argparse.Namespace) -> int:
    from agent.settings import load_settings
    from agent.skills.install import remove as take_away

    skills = discovered()
    skill = next((skill for skill in skills.candidates(args.name) if skill.source == "home"), skills.get(args.name))
    if skill.source == "home" and not args.yes and not agreed(f"Delete {skill.folder}?"):
        return 0
    take_away(skill, load_settings().home)
    print(f"Removed {skill.folder}.")
    return 0


def new(args: argparse.Namespace) -> int:
    from agent.skills.new import write_new

    print(write_new(args.name, args.into, args.description))
    return 0


def pack(args: argparse.Namespace) -> int:
    from agent.skills import pack as packing

    root = args.root.absolute()
    said = {option: getattr(args, option) for option in ("name", "version", "description", "owner")}
    packed = packing.pack(root, packing.about(root, **said))
    changed = packing.drift(root, packed) if args.check else packing.save(root, packed)
    for path in changed:
        print(f"{path} {'differs' if args.check else 'written'}")
    return INVALID if args.check and changed else 0
