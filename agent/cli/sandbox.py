"""`sandbox`: serve the embedded E2B-compatible server, show it, look after the sandboxes that the settings lead to.

Only the arguments are read here; the work is done in `agent.sandbox`.
"""

import argparse
import errno
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from agent.cli.flags import is_loopback, port, positive
from agent.errors import UserError

DEFAULT_PORT = 8449
SHORTEST_KEY = 16


def add(commands: Any) -> None:
    sandbox = commands.add_parser("sandbox", help="run code in sandboxes: server, demo, list, kill")
    verbs = sandbox.add_subparsers(title="verbs", metavar="VERB", required=True)
    add_serve(verbs)

    verb = verbs.add_parser("demo", help="run a few cells, commands and files in a sandbox and print what happens")
    verb.set_defaults(run=demo)

    add_run(verbs)

    verb = verbs.add_parser("template", help="print the E2B cloud template with our training packages")
    verb.add_argument("--build", action="store_true", help="build it in the account of E2B_API_KEY")
    verb.set_defaults(run=template)

    verb = verbs.add_parser("status", help="where sandboxes run by these settings, and how they are jailed")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=status)

    verb = verbs.add_parser("list", help="the sandboxes that live")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=show_list)

    verb = verbs.add_parser("kill", help="end sandboxes and all that runs in them")
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", metavar="ID", nargs="*", default=[])
    which.add_argument("--all", action="store_true", help="every sandbox in the list")
    verb.set_defaults(run=kill)


def add_serve(verbs: Any) -> None:
    verb = verbs.add_parser(
        "serve",
        help="start the E2B-compatible server",
        description="Serves the E2B API on this machine until it is stopped. Point any program that uses the official "
        "E2B SDK at it with E2B_API_URL, E2B_SANDBOX_URL and E2B_API_KEY.",
    )
    verb.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    verb.add_argument("--port", type=port, default=DEFAULT_PORT, help="0 takes any free one (default: %(default)s)")
    verb.add_argument("--key", help="the API key clients send; or MODELSMITH_SANDBOX_KEY (default: a random one)")
    verb.add_argument(
        "--allow", metavar="HOST", nargs="+", action="extend", help="the only hosts sandboxes may reach, by name"
    )
    verb.add_argument(
        "--idle-exit", metavar="SECONDS", type=positive, help="leave after so long without a sandbox (default: stay)"
    )
    verb.add_argument(
        "--unsafe-no-sandbox", action="store_true", help="run code unjailed, as you, when no jail works here"
    )
    verb.add_argument("--tell-fd", type=int, help=argparse.SUPPRESS)  # where to write a line once it answers
    verb.set_defaults(run=serve)


def add_run(verbs: Any) -> None:
    verb = verbs.add_parser(
        "run",
        help="run a program in a sandbox that has one folder of this machine",
        description="Runs COMMAND in a new sandbox where FOLDER and what --read names lie at their own paths, prints "
        "what it prints, and ends with its exit code: 124 at the time limit, 125 when the sandbox was lost.",
    )
    verb.add_argument("folder", metavar="FOLDER", type=Path, help="where it works; it may write there")
    verb.add_argument("--read", metavar="PATH", type=Path, action="append", default=[], help="what it may read too")
    verb.add_argument("--env", metavar="NAME=VALUE", type=variable, action="append", default=[])
    verb.add_argument("--seconds", type=positive, default=7 * 86400.0, help="stop it after so long (default: a week)")
    verb.add_argument("--grace", metavar="SECONDS", type=positive, default=600.0, help="between TERM and the kill")
    verb.add_argument("command", metavar="COMMAND", nargs="+", help="after `--`")
    verb.set_defaults(run=run_program)


def variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"'{text}' is no NAME=VALUE")
    return name, value


def serve(args: argparse.Namespace) -> int:
    key = args.key or os.environ.get("MODELSMITH_SANDBOX_KEY")
    if not is_loopback(args.host) and len(key or "") < SHORTEST_KEY:
        raise UserError(
            f"{args.host} can be reached from other machines. "
            f"Give a key of at least {SHORTEST_KEY} characters with --key, or listen on 127.0.0.1."
        )
    import logging

    from agent.sandbox.daemon import embedded_config, make_root
    from agent.sandbox.embedded import server
    from agent.settings import load_settings

    settings = load_settings(sandbox_allow=args.allow, unsafe_no_sandbox=args.unsafe_no_sandbox or None)
    config = embedded_config(settings)
    make_root(settings)
    config.host, config.port, config.idle_exit = args.host, args.port, args.idle_exit
    if key:
        config.key = key
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")

    def ready(started: server.Server) -> None:
        if args.tell_fd is None:
            show_variables(started.url, config.key)
        else:
            os.write(args.tell_fd, b"ready\n")

    try:
        server.serve(config, ready)
    except server.AlreadyServing as error:
        raise UserError(f"{error}. Stop that one, or give this one another MODELSMITH_HOME.") from None
    except server.NothingSafe as error:
        raise UserError(f"{error}.") from None
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            raise
        reason = os.strerror(error.errno)
        raise UserError(
            f"Cannot listen on {args.host}:{args.port}: {reason}. Choose another --host or --port."
        ) from None
    return 0


def show_variables(url: str, key: str) -> None:
    """What a program needs to reach the server, ready to be pasted into a shell."""
    for name, value in {"E2B_API_URL": url, "E2B_SANDBOX_URL": url, "E2B_API_KEY": key}.items():
        print(f"export {name}={shlex.quote(value)}", flush=True)


def demo(args: argparse.Namespace) -> int:
    from agent.sandbox import demo as story
    from agent.sandbox.open import SandboxGone
    from agent.settings import load_settings

    try:
        story.run(load_settings())
    except SandboxGone as gone:
        print(f"error: {gone}", file=sys.stderr)
        return 1
    return 0


def run_program(args: argparse.Namespace) -> int:
    import signal
    import threading

    from agent.sandbox.jail import SandboxJail
    from agent.settings import load_settings
    from tools.context import ToolError

    for path in (args.folder, *args.read):
        if not path.exists():
            raise UserError(f"{path} is not there. Name what the program shall see.")
    cancel = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: cancel.set())
    try:
        ended = SandboxJail(load_settings()).run(
            args.folder, args.command, timeout=args.seconds, env=dict(args.env), reads=args.read,
            line=lambda text: print(text, flush=True), grace=args.grace, cancel=cancel,
        )  # fmt: skip
    except (ToolError, OSError) as error:
        raise UserError(str(error)) from None
    if ended.end == "lost":
        print(f"error: {ended.output.rpartition(chr(10))[2]}", file=sys.stderr)
    other = {"timeout": 124, "lost": 125}
    return other.get(ended.end, 130 if ended.exit_code is None else ended.exit_code)


def template(args: argparse.Namespace) -> int:
    from agent.sandbox import template as cloud
    from agent.settings import load_settings

    print(cloud.build(load_settings()) if args.build else cloud.text())
    return 0


def status(args: argparse.Namespace) -> int:
    from agent.sandbox import manage
    from agent.settings import load_settings

    facts = manage.status(load_settings())
    if args.json:
        print(json.dumps(facts, indent=2))
    for name, fact in {} if args.json else facts.items():
        print(f"{name:<9} {fact}")
    return 0


def show_list(args: argparse.Namespace) -> int:
    from agent.sandbox import manage
    from agent.settings import load_settings

    rows = manage.listing(load_settings())
    if args.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print("No sandbox lives.")
    else:
        print(f"{'id':<21} {'state':<8} {'started':<26} {'ends':<26} metadata")
        for row in rows:
            told = " ".join(f"{name}={value}" for name, value in row["metadata"].items())
            print(f"{row['id']:<21} {row['state']:<8} {row['started']:<26} {row['ends']:<26} {told}".rstrip())
    return 0


def kill(args: argparse.Namespace) -> int:
    from agent.sandbox import manage
    from agent.settings import load_settings

    settings = load_settings()
    wanted = [row["id"] for row in manage.listing(settings)] if args.all else args.ids
    missing = []
    for sandbox in dict.fromkeys(wanted):
        if manage.kill(settings, sandbox):
            print(f"ended {sandbox}")
        elif not args.all:  # one that ended by itself meanwhile is as wanted
            missing.append(sandbox)
    if missing:
        raise UserError(
            f"There is no sandbox {', '.join(missing)}. `python -m agent sandbox list` shows those that live."
        )
    return 0
