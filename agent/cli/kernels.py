"""`kernels`: the kernel tools by hand. `verify` runs every state that this machine can; on one with a GPU it fills in
what was not run elsewhere.

Whatever was generated runs in the sandbox, here too. Publishing passes the gate. Exit code 1 where a state failed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.cli.opening import add_policy_flags, redactor_of, settings_of
from agent.cli.runs import print_result, within
from agent.errors import UserError

Command = Callable[[argparse.Namespace], dict[str, Any]]


def add(commands: Any) -> None:
    kernels = commands.add_parser("kernels", help="make, build, check, time, report, publish GPU kernels")
    verbs = kernels.add_subparsers(title="verbs", metavar="VERB", required=True)

    _verb(verbs, "list", "every kernel and what its states found", show_list)
    _verb(verbs, "patterns", "the worked ops", show_patterns)

    verb = _verb(verbs, "new", "specify and scaffold a project", new)
    verb.add_argument("op", metavar="OP", help="a worked op, or a name for your own")
    verb.add_argument("--target", metavar="CARD", required=True, help="H100, A100, T4, MI300X, CPU, sm_90, ...")
    verb.add_argument("--model", metavar="MODEL", help="the model it is meant for")
    verb.add_argument("--sources", metavar="DIR", type=Path, help="a folder with files of your own")
    verb.add_argument("--name", metavar="NAME", help="its name on the Hub (default: made from model and op)")

    for name, help, command in [
        ("build", "compile it for everything that can be compiled for here", build),
        ("check", "right on every device that is here, and loadable", check),
        ("benchmark", "timed beside what is there already", benchmark),
        ("verify", "build, check, benchmark and report: all that this machine can find out", verify),
        ("report", "every figure with how it is known", report),
    ]:
        _verb(verbs, name, help, command).add_argument("name", metavar="KERNEL")

    verb = verbs.add_parser("publish", help="upload what may be uploaded")
    verb.add_argument("name", metavar="KERNEL")
    verb.add_argument("repo", metavar="REPO", help="organisation/name")
    verb.add_argument("--json", action="store_true", help="print JSON")
    add_policy_flags(verb)
    verb.set_defaults(run=publish)


def _verb(verbs: Any, name: str, help: str, command: Command) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=help)
    verb.add_argument("--json", action="store_true", help="print JSON")

    def told(args: argparse.Namespace) -> int:
        result = redactor_of(settings_of(args)).value(command(args))
        print_result(result, args.json)
        return 1 if result.get("passed") is False or result.get("verdict") == "NOT READY" else 0

    verb.set_defaults(command=told, run=within)
    return verb


def show_list(args: argparse.Namespace) -> dict[str, Any]:
    from tools import envelope
    from tools.kernel import place

    states = ["spec", "scaffold", "compile", "numerics", "load", "microbench", "endtoend", "report", "publish"]
    rows = []
    for name in place.names():
        found = [place.evidence(place.folder_of(name), state) for state in states]
        rows.append([name, *(one["status"] if one else "" for one in found)])
    note = str(place.kernels_folder()) if rows else "There are no kernels yet. `python -m agent kernels new` makes one."
    return envelope.table("Kernels", ["kernel", *states], rows, note)


def show_patterns(args: argparse.Namespace) -> dict[str, Any]:
    from tools import envelope
    from tools.kernel import place

    rows = [[name, ", ".join(dict.fromkeys(filter(None, called[1:])))] for name, called in place.patterns().items()]
    return envelope.table("Worked ops", ["op", "also called"], rows)


def new(args: argparse.Namespace) -> dict[str, Any]:
    from tools.kernels import new_kernel

    return new_kernel(args.op, args.target, args.model, texts(args.sources), args.name)


def texts(folder: Path | None) -> dict[str, str] | None:
    if folder is None:
        return None
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Give one with oracle.py, kernel.cuh and the like.")
    try:
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file()}
    except UnicodeDecodeError as error:
        raise UserError(
            f"A file in {folder} is no text: {error.reason}. Leave only the kernel's sources there."
        ) from None


def build(args: argparse.Namespace) -> dict[str, Any]:
    from tools.kernels import build_kernel

    return build_kernel(args.name)


def check(args: argparse.Namespace) -> dict[str, Any]:
    from tools.kernels import check_kernel

    return check_kernel(args.name)


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    from tools.kernels import benchmark_kernel

    return benchmark_kernel(args.name)


def report(args: argparse.Namespace) -> dict[str, Any]:
    from tools.kernels import kernel_report

    return kernel_report(args.name)


def verify(args: argparse.Namespace) -> dict[str, Any]:
    """The report after every state; a build that failed ends it early."""
    from tools import kernels

    if kernels.build_kernel(args.name)["passed"]:
        kernels.check_kernel(args.name)
        kernels.benchmark_kernel(args.name)
    return kernels.kernel_report(args.name)


def publish(args: argparse.Namespace) -> int:
    """As any call of a tool that publishes."""
    from agent.cli.tools import call

    args.values = [f"kernel={args.name}", f"repo={args.repo}"]
    args.name = "publish_kernel"
    return call(args)
