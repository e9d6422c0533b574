"""`run`: one task to its end, shown as it happens.

Exit codes: 0 succeeded, 1 failed, 2 the person's mistake, 3 a limit, 4 an approval was needed, 130 cancelled.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.opening import (
    add_run_flags,
    check_files,
    mode_of,
    open_screen,
    open_store,
    settings_of,
)
from agent.errors import UserError

if TYPE_CHECKING:
    from agent.cli.turn import Screen
    from agent.settings import Settings


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="do one task and show how",
        description="Does one task. Exit codes: 0 succeeded, 1 failed, 2 your mistake, 3 a limit was reached, "
        "4 an approval was needed, 130 cancelled.",
    )
    parser.add_argument("task", metavar="TASK", help="what you want, in words; - reads it from stdin")
    parser.add_argument("--file", metavar="PATH", type=Path, action="append", default=[], help="give it this file")
    parser.add_argument("--session", metavar="ID", help="go on with this session")
    add_run_flags(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the events as JSON lines")
    form.add_argument("--quiet", action="store_true", help="print the answer alone")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    task = sys.stdin.read() if args.task == "-" else args.task
    if not task.strip():
        raise UserError("The task is empty. Say what you want.")
    files = check_files(args.file)
    settings = settings_of(args)

    from agent.cli.question import terminal
    from agent.cli.turn import leave
    from agent.cli.view import choose

    with open_store(settings) as store:
        view = choose(settings.home, args.json, args.quiet)
        screen = open_screen(settings, store, view, mode_of(args), terminal(), args.session)
        try:
            outcome = screen.turn(task, files)
        finally:
            screen.close()
        if not (args.json or args.quiet):
            tell_where(screen, settings)
    if screen.stray:
        leave(outcome.exit_code)
    return outcome.exit_code


def tell_where(screen: "Screen", settings: "Settings") -> None:
    """Where everything lies, and how to go on. The verdict once more: the report that holds it has scrolled away."""
    from agent.cli.view.base import artifact_line
    from agent.cli.view.clean import one_line

    session = screen.session.id
    runs: dict[str, str] = {}
    answer: dict[str, Any] = {}
    print()
    for event in screen.store.all(session):
        if event.type == "artifact":
            print(f"file     {artifact_line(event.data, settings.home)}")
        elif event.type == "job" and event.data.get("run"):
            runs[event.data["run"]] = event.data["state"]
        elif event.type == "answer":
            answer = event.data.get("envelope") or {}
    for run, state in runs.items():
        print(f"run      {one_line(run)}, {one_line(state)}: python -m agent runs show {one_line(run)}")
    if found := re.search(r"^VERDICT: (.+)$", str(answer.get("markdown", "")), re.MULTILINE):
        print(f"verdict  {one_line(found[1].replace('*', ''))}")
    if answer.get("type") == "report" and answer.get("path"):
        print(f"report   {one_line(answer['path'])}")
    print(f"session  {session} (in {settings.home / 'sessions.db'})")
    print(f'resume   python -m agent run --session {session} "…"   or   python -m agent chat --session {session}')
    print(f"export   python -m agent sessions export {session}")
