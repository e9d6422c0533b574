"""`tools`: which functions the agent can call, what they say of themselves, and one call by hand.

A call passes the same gate as the agent's: it asks, or needs --yes and a budget, or is refused. It belongs to no
session, so it is not in the log of any. Exit codes: 4 when an approval was needed, 3 for a limit, 1 when it failed.
"""

import argparse
import json
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from agent.cli.opening import add_policy_flags, mode_of, redactor_of, settings_of
from agent.errors import UserError

if TYPE_CHECKING:
    from agent.policy import Deny
    from agent.settings import Settings
    from agent.toolbox import Tool
    from tools.context import Context


def add(commands: Any) -> None:
    parser = commands.add_parser("tools", help="list, show, call the agent's tools without a model")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    verb = verbs.add_parser("list", help="every tool, its risk and what it does")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=show_list)

    verb = verbs.add_parser("show", help="one tool's signature and documentation")
    verb.add_argument("name", metavar="NAME")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=show)

    verb = verbs.add_parser("call", help="call one: NAME key=value …; values are JSON, else text")
    verb.add_argument("name", metavar="NAME")
    verb.add_argument("values", metavar="key=value", nargs="*")
    add_policy_flags(verb)
    verb.add_argument("--json", action="store_true", help="print the result as JSON")
    verb.set_defaults(run=call)


def show_list(args: argparse.Namespace) -> int:
    from agent import toolbox
    from agent.cli.view.result import fitted

    tools = toolbox.load().values()
    if args.json:
        print(json.dumps([facts(tool) for tool in tools], indent=2))
    width = max((len(tool.name) for tool in tools), default=0)
    for tool in [] if args.json else tools:
        print(fitted(f"{tool.name:<{width}}  {tool.risk:<11}  {tool.summary}"))
    return 0


def show(args: argparse.Namespace) -> int:
    tool = find(args.name)
    if args.json:
        print(json.dumps({**facts(tool), "doc": tool.doc}, indent=2))
    else:
        print(f"{tool.signature_text()}\nrisk: {tool.risk}\n\n{tool.doc}")
    return 0


def facts(tool: "Tool") -> dict[str, Any]:
    return {"name": tool.name, "risk": tool.risk, "summary": tool.summary, "signature": tool.signature_text()}


def find(name: str) -> "Tool":
    from agent import toolbox

    tools = toolbox.load()
    if name not in tools:
        raise UserError(f"There is no tool {name!r}. `python -m agent tools list` shows those there are.")
    return tools[name]


def parsed(values: list[str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for pair in values:
        name, sign, text = pair.partition("=")
        if not sign or not name.isidentifier():
            raise UserError(f"'{pair}' is no argument. Write key=value.")
        try:
            arguments[name] = json.loads(text)
        except ValueError:
            arguments[name] = text
    return arguments


def call(args: argparse.Namespace) -> int:
    from agent.policy import Allow, Ask, Budget, Gate, Request, Risk
    from tools.context import ToolError

    tool = find(args.name)
    settings = settings_of(args)
    try:
        arguments = checked(tool, parsed(args.values))
        stake = tool.stake(arguments)
    except ToolError as error:
        raise UserError(str(error)) from None
    from agent.cli.question import terminal

    gate = Gate(mode_of(args), Budget(settings.max_usd, settings.max_minutes), settings.offline, terminal())
    request = Request(
        id=uuid.uuid4().hex, tool=tool.name, arguments=arguments, risk=Risk(tool.risk), what=stake.what,
        where=stake.where, usd=stake.usd, usd_max=stake.usd_max, minutes=stake.minutes, origin="person",
    )  # fmt: skip
    decision = gate.decide(request)
    if isinstance(decision, Ask):
        decision = put(gate, decision)
    if not isinstance(decision, Allow):
        return refused(decision)
    return execute(tool, arguments, settings, args.json)


def checked(tool: "Tool", arguments: dict[str, Any]) -> dict[str, Any]:
    """Text that reads as JSON but is wanted as text (a name like 123) is given as it was written."""
    from tools.context import ToolError

    try:
        return tool.check(arguments)
    except ToolError:
        texts = {p["name"] for p in tool.parameters() if p["type"] in ("str", "str | None")}
        again = {n: json.dumps(v) if n in texts and not isinstance(v, str) else v for n, v in arguments.items()}
        if again == arguments:
            raise
        return tool.check(again)


def put(gate: Any, asked: Any) -> Any:
    from agent.cli.question import ask
    from agent.cli.view import View

    verdict = ask(View(), asked.card, lambda: True)
    if verdict and verdict.allowed:
        return gate.approve(asked.record["id"], verdict.session_usd)
    return gate.refuse(asked.record["id"], verdict.reason if verdict else "")


def refused(denied: "Deny") -> int:
    from agent.cli.view.clean import one_line

    print(f"not done: {one_line(denied.reason)}", file=sys.stderr)
    if denied.needs_approval or denied.record["by"] == "person":
        return 4
    return 3 if denied.limit else 1


def execute(tool: "Tool", arguments: dict[str, Any], settings: "Settings", as_json: bool) -> int:
    from agent.cli.turn import interrupts
    from agent.cli.view.clean import one_line
    from agent.cli.view.result import show_result
    from tools.context import Cancelled, ToolError, inside

    cancel, redactor = threading.Event(), redactor_of(settings)
    try:
        with interrupts(cancel.set, lambda: None), inside(context(settings, cancel)):
            result = redactor.value(tool.function(**arguments))
    except Cancelled:
        return 130
    except ToolError as error:
        print(f"{tool.name}: {one_line(redactor.text(str(error)))}", file=sys.stderr)
        return 1
    show_result(result, as_json)
    return 0


def context(settings: "Settings", cancel: threading.Event) -> "Context":
    from agent.sandbox.jail import SandboxJail
    from tools.context import Context

    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return Context(
        home=settings.home,
        offline=settings.offline,
        hf_token=token,
        cancel=cancel,
        jail=SandboxJail(settings),
        progress=Progress().show,
    )


class Progress:
    """A line on stderr that tells how far a call is, at most a few times a second and only on a terminal."""

    def __init__(self) -> None:
        self._shown = 0.0

    def show(self, done: float | None, text: str) -> None:
        from agent.cli.view.clean import one_line

        now = time.monotonic()
        if sys.stderr.isatty() and now - self._shown > 0.2:
            self._shown = now
            part = "" if done is None else f"{done:.0%} "
            print(f"{part}{one_line(text, 100)}", file=sys.stderr)
