"""`doctor`: is everything there that a session stands on, and what to do where it is not. Exit code 1 if not."""

import argparse
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from agent.cli.opening import SANDBOXES, redactor_of, settings_of
from agent.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor import Finding


def add(commands: Any) -> None:
    parser = commands.add_parser("doctor", help="check everything a session stands on")
    parser.add_argument("--model", metavar="SPEC", help="check with this model")
    parser.add_argument("--sandbox", choices=SANDBOXES, help="check this place")
    parser.add_argument("--offline", action="store_true", default=None, help="nothing leaves this machine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from agent.cli.view.clean import one_line

    findings = []
    for finding in examine(args):
        findings.append(finding)
        if not args.json:
            print(f"{finding.state:<5} {finding.name:<9} {one_line(finding.text)}", flush=True)
            if finding.mend:
                print(f"{'':<15} → {one_line(finding.mend)}", flush=True)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return 1 if any(finding.state == "bad" for finding in findings) else 0


def examine(args: argparse.Namespace) -> "Iterator[Finding]":
    from agent import doctor

    try:
        settings = settings_of(args)
    except UserError as error:  # what the others would be checked by
        yield doctor.Finding("settings", "bad", str(error))
        return
    redactor = redactor_of(settings)
    for finding in doctor.examine(settings):  # errors of servers and libraries may quote what they were given
        yield replace(finding, text=redactor.text(finding.text), mend=redactor.text(finding.mend))
