"""`ui`: the page in the browser, for one person on this machine, or for several behind a sign-in."""

import argparse
from typing import Any

from agent.cli.opening import add_run_flags, open_store, settings_of

PORT = 7860


def add(commands: Any) -> None:
    parser = commands.add_parser("ui", help="the page in the browser")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="listen there (default: %(default)s)")
    parser.add_argument("--port", type=int, metavar="N", help=f"default: {PORT}, or the next that is free")
    add_run_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    with open_store(settings) as store:
        from agent.ui.guard import Rules
        from agent.ui.people import Local
        from agent.ui.server import Server, serve

        server = Server.build(settings, store, Local())
        serve(server, Rules(), args.host, args.port, told=lambda url: print(f"The page is at {url}", flush=True))
    return 0
