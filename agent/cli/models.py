"""`models`: what answers on this machine, what it would take, which one to get; `models check` asks it a few questions.

Looking asks loopback alone. A check sends three short questions to the model that was named, wherever it is.
"""

import argparse
import datetime
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.cli.opening import settings_of

if TYPE_CHECKING:
    from agent.models.discover import Server
    from agent.models.resolve import Choice
    from agent.settings import Settings


def add(commands: Any) -> None:
    parser = commands.add_parser("models", help="which language models answer here; check one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--offline", action="store_true", default=None, help="nothing leaves this machine")
    parser.set_defaults(run=show)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    verb = verbs.add_parser("check", help="ask a model a few short questions and say what to mend")
    verb.add_argument("model", metavar="SPEC", nargs="?", help="default: the one that would be taken")
    verb.add_argument("--offline", action="store_true", default=None, help="nothing leaves this machine")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=check)


def choose(settings: "Settings") -> "Choice":
    """The model these settings lead to, exactly as a session finds it."""
    from agent.models.resolve import resolve

    return resolve(
        settings.model,
        offline=settings.offline,
        hf_token=settings.hf_token.get_secret_value() if settings.hf_token else None,
        api_key=settings.model_key.get_secret_value() if settings.model_key else None,
        profiles=settings.home / "models",
    )


def show(args: argparse.Namespace) -> int:
    from agent.cli.view.clean import one_line
    from agent.errors import UserError
    from agent.models.discover import discover
    from agent.models.recommend import load_table, memory_here, suggest

    settings = settings_of(args)
    servers = discover()
    try:
        choice = choose(settings)
        chosen = {"model": choice.label, "why": choice.why, "window": choice.window}
    except UserError as error:  # a model that was named and does not answer: the rest is worth seeing all the more
        chosen = {"model": None, "why": str(error), "window": None}
    memory = memory_here()
    advice = suggest(memory, load_table(), datetime.date.today())
    if args.json:
        facts = {"servers": [asdict(server) for server in servers], "chosen": chosen}
        print(json.dumps(facts | {"memory": asdict(memory), "suggestion": asdict(advice)}, indent=2))
        return 0
    for line in [line for server in servers for line in told(server)] or ["No model server answers on this machine."]:
        print(one_line(line) if not line.startswith(" ") else f"  {one_line(line)}")
    print(f"\n{one_line(settings.model)} takes: {one_line(chosen['model'] or 'nothing')} ({one_line(chosen['why'])})")
    gpus = ", ".join(f"{one_line(name)} {gib:.0f} GiB" for name, gib in memory.gpus) or "no GPU"
    print(f"\nFor this machine ({gpus}, {memory.ram:.0f} GiB of memory): {advice.model}, {advice.note}")
    print(f"  {advice.start}")
    if advice.warning:
        print(f"  {advice.warning}")
    return 0


def told(server: "Server") -> list[str]:
    state = " (still loading)" if server.loading else ""
    lines = [f"{server.base_url}  {server.kind} {server.version or ''}{state}".rstrip()]
    for model in server.models:
        window = f"window {model.window:,}" if model.window else "window not told"
        lines.append(f"  {model.name}  {window}{'' if model.loaded is not False else ', not loaded'}")
    return lines + [f"  ! {note}" for note in server.notes]


def check(args: argparse.Namespace) -> int:
    from agent.cli.view.clean import one_line
    from agent.models import probe

    settings = settings_of(args)
    choice = choose(settings)
    findings = probe.check(choice, settings.home / "models")
    if args.json:
        print(json.dumps({"model": choice.label, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print(f"{one_line(choice.label)}: {one_line(choice.why)}")
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'bad'}  {one_line(finding.what)}")
            if finding.mend:
                print(f"     mend: {one_line(finding.mend)}")
    return 0 if all(finding.ok for finding in findings) else 1
