"""`runs`: look at trainings, read their logs, stop them, go on with them, compare them, write their reports.

A person may do what the model may not: `--force` starts a script without a passed preflight, and outside of a jail.
"""

import argparse
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from agent.cli.flags import positive
from agent.cli.opening import redactor_of, settings_of
from agent.errors import UserError

Command = Callable[[argparse.Namespace], dict[str, Any]]
FAILED = ("failed", "lost")


def add(commands: Any) -> None:
    runs = commands.add_parser("runs", help="list, show, start, stop, resume, compare trainings, write their reports")
    verbs = runs.add_subparsers(title="verbs", metavar="VERB", required=True)

    _verb(verbs, "list", "every run, the newest first", show_list)

    verb = _verb(verbs, "show", "how one stands, and its verdict", show)
    verb.add_argument("name", metavar="RUN")

    verb = _verb(verbs, "start", "begin the training of a run", start)
    verb.add_argument("name", metavar="RUN")
    verb.add_argument("--hardware", metavar="NAME", default="local", help="where (default: %(default)s)")
    _add_force(verb)

    verb = _verb(verbs, "resume", "go on from the last checkpoint", resume)
    verb.add_argument("name", metavar="RUN")
    _add_force(verb)

    verb = _verb(verbs, "cancel", "stop one; it leaves a checkpoint", cancel)
    verb.add_argument("name", metavar="RUN")

    verb = _verb(verbs, "compare", "plans and outcomes side by side", compare)
    verb.add_argument("names", metavar="RUN", nargs="+")

    verb = _verb(verbs, "report", "write the report anew and print it", report)
    verb.add_argument("name", metavar="RUN")

    verb = verbs.add_parser("logs", help="what one printed")
    verb.add_argument("name", metavar="RUN")
    verb.add_argument("--tail", type=int, default=50, metavar="N", help="the last N lines (default: %(default)s)")
    verb.add_argument("--follow", action="store_true", help="go on until the run is over")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(command=logs, run=within)


def _add_force(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--minutes", type=positive, metavar="N", help="stop it after so long (default: as planned)")
    verb.add_argument("--force", action="store_true", help="without a passed preflight, outside of a jail")


def _verb(verbs: Any, name: str, help: str, command: Command) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=help)
    verb.add_argument("--json", action="store_true", help="print JSON")

    def told(args: argparse.Namespace) -> int:
        result = redactor_of(settings_of(args)).value(command(args))
        print_result(result, args.json)
        return 1 if name != "list" and result.get("state") in FAILED else 0

    verb.set_defaults(command=told, run=within)
    return verb


def within(args: argparse.Namespace) -> int:
    """The command in the surroundings of a tool; what it cannot do is the person's to mend."""
    from agent.cli.tools import context
    from agent.cli.turn import interrupts
    from tools.context import Cancelled, ToolError, inside

    cancel = threading.Event()
    settings = settings_of(args)
    try:
        with interrupts(cancel.set, lambda: None), inside(context(settings, cancel)):
            return args.command(args)
    except Cancelled:
        return 130
    except ToolError as error:
        raise UserError(redactor_of(settings).text(str(error))) from None


def print_result(result: dict[str, Any], as_json: bool) -> None:
    from agent.cli.view.clean import clean
    from agent.cli.view.result import show_result

    if result["type"] == "job" and not as_json:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        print(clean(status_text(result)))
    else:
        show_result(result, as_json)


def status_text(told: dict[str, Any]) -> str:
    """A run for the eye: the line, what to know, and how it came out."""
    from tools import evaluation

    lines = [f"{told['state']:<10} {told['ref']}: {told['title']}"]
    if told.get("reason") and told["reason"] not in told["title"]:
        lines.append(f"           {told['reason']}")
    if told.get("note"):
        lines.append(told["note"])
    lines += [f"{one['level']} at step {one['step']}: {one['title']}: {one['text']}" for one in told.get("alerts", [])]
    if cause := told.get("diagnosis"):
        lines += ["", f"What went wrong: {cause['kind']}", *(f"  {line}" for line in cause["evidence"])]
        lines += [f"  cure: {one['what']} ({one['why']})" for one in cause.get("cures", [])]
        lines += [f"  {cause['advice']}"] if cause.get("advice") else []
    if verdict := told.get("verdict"):
        lines += ["", f"VERDICT: {verdict['verdict']}{evaluation.judged_by(verdict)}, {verdict['reason']}"]
    if told.get("log"):
        lines += ["", *(f"  {line}" for line in told["log"])]
    return "\n".join(lines)


def show_list(args: argparse.Namespace) -> dict[str, Any]:
    from tools.runs import run_status

    return run_status()


def show(args: argparse.Namespace) -> dict[str, Any]:
    from tools.runs import run_status

    return run_status(args.name)


def start(args: argparse.Namespace) -> dict[str, Any]:
    from tools import runs

    if args.force:
        return runs.force_start(args.name, args.hardware, args.minutes)
    return runs.start_run(args.name, args.hardware, args.minutes)


def resume(args: argparse.Namespace) -> dict[str, Any]:
    from tools import runs

    if args.force:
        return runs.force_resume(args.name, args.minutes)
    return runs.resume(args.name, args.minutes)


def cancel(args: argparse.Namespace) -> dict[str, Any]:
    from tools.runs import cancel_run

    return cancel_run(args.name)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    from tools.runs import compare_runs

    return compare_runs(args.names)


def report(args: argparse.Namespace) -> dict[str, Any]:
    from tools.reports import write_report

    return write_report(args.name)


def logs(args: argparse.Namespace) -> int:
    from agent.cli.view.clean import clean
    from tools.context import here
    from tools.runs import read_logs

    redactor = redactor_of(settings_of(args))
    lines = (redactor.text(line) for line in read_logs(args.name, max(0, args.tail), args.follow))
    if args.json:
        print(json.dumps({"run": args.name, "lines": list(lines)}, indent=2))
        return 0
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for line in lines:
        print(clean(line), flush=True)
        if here().cancel.is_set():
            return 130
    return 0
