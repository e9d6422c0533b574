"""`ui`: the page in the browser, for one person on this machine, or for several behind a sign-in."""

import argparse
import ipaddress
from typing import TYPE_CHECKING, Any

from agent.cli.flags import is_loopback, port
from agent.cli.opening import add_run_flags, mode_of, open_store, settings_of
from agent.errors import UserError

if TYPE_CHECKING:
    from agent.settings import Settings
    from agent.ui.guard import Rules
    from agent.ui.people import Door

PORT = 7860


def add(commands: Any) -> None:
    parser = commands.add_parser("ui", help="the page in the browser")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="listen there (default: %(default)s)")
    parser.add_argument(
        "--port", type=port, metavar="N", help=f"0 takes any free one (default: {PORT}, or the next that is free)"
    )
    door = parser.add_mutually_exclusive_group()
    door.add_argument(
        "--auth", action="append", metavar="FILE", help="let these people sign in: a file of name:hash lines, or a line"
    )
    door.add_argument(
        "--auth-header", metavar="NAME", help="a reverse proxy signs people in and names them in this header"
    )
    parser.add_argument(
        "--proxy", action="append", default=[], metavar="ADDRESS", help="the proxy that is believed (default: loopback)"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name under which the page is reached"
    )
    parser.add_argument("--share", action="store_true", help="open a public tunnel through Gradio; needs --auth")
    add_run_flags(parser)
    parser.set_defaults(run=run)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    verb = verbs.add_parser("password", help="ask for a password and print the line for the file of --auth")
    verb.add_argument("name", metavar="NAME")
    verb.set_defaults(run=password)


def run(args: argparse.Namespace) -> int:
    check(args)
    settings = settings_of(args)
    with open_store(settings) as store:
        from agent.ui.server import Server, serve

        server = Server.build(settings, store, door(args, settings), mode_of(args))
        told = f"The page is at {{}}{'' if server.door.local else ' (sign in first)'}"
        serve(server, rules(args), args.host, args.port, args.share, lambda url: print(told.format(url), flush=True))
    return 0


def check(args: argparse.Namespace) -> None:
    """What would be open to others is not started without a door."""
    if args.share and not args.auth:
        raise UserError("--share puts the page on the internet. Say with --auth who may come in.")
    if not is_loopback(args.host) and not (args.auth or args.auth_header):
        raise UserError(
            f"On {args.host} other machines reach the page, and with it this machine. Say who may come in: --auth FILE "
            "(`python -m agent ui password NAME` makes its lines), or --auth-header NAME behind a reverse proxy."
        )


def door(args: argparse.Namespace, settings: "Settings") -> "Door":
    from agent.ui import passwords, people
    from agent.ui.login import Passwords
    from agent.ui.logins import Logins

    if args.auth:
        return Passwords(passwords.read(args.auth), Logins(settings.home))
    if args.auth_header:
        return people.Header(args.auth_header)
    return people.Local()


def rules(args: argparse.Namespace) -> "Rules":
    from agent.ui.guard import LOOPBACK, Rules, host_name

    proxies = args.proxy or (["127.0.0.1", "::1"] if args.auth_header or args.allow_host else [])
    for address in proxies:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise UserError(f"--proxy {address} is no address. Give the one from which the proxy connects.") from None
    hosts = {host_name(name) for name in args.allow_host} - {""}
    if not is_loopback(args.host):
        hosts |= {host_name(args.host)} - {*LOOPBACK, "0.0.0.0", "::"}
    return Rules(frozenset(hosts), frozenset(proxies), args.auth_header or "", any_address=not is_loopback(args.host))


def password(args: argparse.Namespace) -> int:
    import getpass
    import sys

    from agent.ui.passwords import line

    if sys.stdin.isatty():
        typed = getpass.getpass(f"Password for {args.name}: ")
        if getpass.getpass("Once more: ") != typed:
            raise UserError("The two passwords differ. Nothing was printed; try again.")
    else:
        typed = sys.stdin.readline().rstrip("\n")
    print(line(args.name, typed))
    return 0
