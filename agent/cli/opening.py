"""What the commands that touch sessions have in common: their flags, the settings those make, the store, a session."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.flags import amount, count, positive
from agent.errors import UserError

if TYPE_CHECKING:
    from agent.cli.turn import Screen
    from agent.cli.view import View
    from agent.policy import Mode
    from agent.redact import Redactor
    from agent.settings import Settings
    from agent.store import Store

SANDBOXES = ("auto", "embedded", "e2b")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """How a session runs: model, sandbox, who decides, limits."""
    parser.add_argument("--model", metavar="SPEC", help="auto, recipes, a URL, ollama/NAME, hf/ORG/NAME, …")
    parser.add_argument("--sandbox", choices=SANDBOXES, help="where code runs (default: auto)")
    add_policy_flags(parser)
    parser.add_argument("--max-minutes", type=positive, metavar="N", help="end the turn after so long")
    parser.add_argument("--max-steps", type=count, metavar="N", help="end the turn after so many steps")


def add_policy_flags(parser: argparse.ArgumentParser) -> None:
    mode = parser.add_mutually_exclusive_group()
    for name, help in (
        ("ask", "ask before spending, publishing, deleting (the default)"),
        ("yes", "allow it within the limits"),
        ("deny", "refuse it"),
    ):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=help)
    parser.set_defaults(mode="ask")
    parser.add_argument("--offline", action="store_true", default=None, help="nothing leaves this machine")
    parser.add_argument("--max-usd", type=amount, metavar="USD", help="never spend more than this in the session")


def settings_of(args: argparse.Namespace) -> "Settings":
    """The settings with what the flags of this command say on top."""
    from agent.settings import load_settings

    names = ("model", "sandbox", "offline", "max_usd", "max_minutes", "max_steps")
    return load_settings(**{name: getattr(args, name, None) for name in names})


def mode_of(args: argparse.Namespace) -> "Mode":
    from agent.policy import Mode

    return Mode(args.mode)


def open_store(settings: "Settings") -> "Store":
    from agent.store import Store

    return Store.open(settings.home, redactor_of(settings))


def redactor_of(settings: "Settings") -> "Redactor":
    """Knows every secret of the settings and keeps them out of what is stored and printed."""
    from pydantic import SecretStr

    from agent.redact import Redactor

    values = (getattr(settings, name) for name in type(settings).model_fields)
    return Redactor(value.get_secret_value() for value in values if isinstance(value, SecretStr))


def check_files(paths: list[Path]) -> list[Path]:
    """Before anything starts: the files a person named are there."""
    for path in paths:
        if path.is_dir():
            raise UserError(f"{path} is a folder. Give the path of a file.")
        if not path.is_file():
            raise UserError(f"There is no file {path}. Give the path of a file.")
    return paths


def open_screen(
    settings: "Settings", store: "Store", view: "View", mode: "Mode", attended: bool, session_id: str | None
) -> "Screen":
    """A new session, or the one of that id, on a view. One that is gone on with keeps its model unless another is said
    by flag, environment or config."""
    from agent.cli.turn import Asking, Screen
    from agent.session import Session

    made: Any
    if session_id is None:
        made, seen = Session.start(settings, store, mode=mode, attended=attended, cwd=Path.cwd()), 0
    else:
        seen = store.session(session_id).last_seq
        if "model" not in settings.model_fields_set:
            settings = settings.model_copy(update={"model": model_of(store, session_id) or settings.model})
        made = Session.resume(settings, store, session_id, mode=mode, attended=attended)
    return (Asking if attended else Screen)(store, made, view, seen)


def model_of(store: "Store", session_id: str) -> str | None:
    """What was asked for when the session last began: `auto`, a URL, …"""
    details = (event.data.get("detail") or {} for event in store.all(session_id) if event.type == "state")
    return next((detail["spec"] for detail in reversed([*details]) if "spec" in detail), None)
