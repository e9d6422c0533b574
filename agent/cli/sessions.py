"""`sessions`: look at what was said and done, go on with it, take it along, remove it."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.flags import count
from agent.cli.opening import add_run_flags, open_store, settings_of
from agent.errors import UserError

if TYPE_CHECKING:
    from agent.store import Store

FORMATS = {"md": "export_markdown", "jsonl": "export_jsonl", "html": "export_html"}


def add(commands: Any) -> None:
    sessions = commands.add_parser("sessions", help="list, show, resume, search, export, rename, pin, delete sessions")
    verbs = sessions.add_subparsers(title="verbs", metavar="VERB", required=True)

    verb = _verb(verbs, "list", "pinned ones first, then the newest", show_list)
    verb.add_argument("words", metavar="WORD", nargs="*", help="only those in which all these words occur")
    verb.add_argument("--limit", type=count, default=50, metavar="N", help="at most so many (default: %(default)s)")
    verb.add_argument("--json", action="store_true", help="print JSON")

    verb = _verb(verbs, "show", "everything that happened in one", show)
    verb.add_argument("id", metavar="ID")
    verb.add_argument("--json", action="store_true", help="print the events as JSON lines")

    verb = verbs.add_parser("resume", help="go on talking in one")
    verb.add_argument("session", metavar="ID")
    add_run_flags(verb)
    verb.set_defaults(run=resume)

    verb = _verb(verbs, "search", "the places where a word occurs", search)
    verb.add_argument("words", metavar="WORD", nargs="+")
    verb.add_argument("--json", action="store_true", help="print JSON")

    verb = _verb(verbs, "export", "one as Markdown, as JSON lines or as a page", export)
    verb.add_argument("id", metavar="ID")
    verb.add_argument("--format", choices=sorted(FORMATS), help="default: by the file's name, else md")
    verb.add_argument("-o", "--output", metavar="FILE", type=Path, help="write it there")

    verb = _verb(verbs, "rename", "give one another title", rename)
    verb.add_argument("id", metavar="ID")
    verb.add_argument("title", metavar="TITLE")

    verb = _verb(verbs, "pin", "keep one at the top of the list", pin)
    verb.add_argument("id", metavar="ID")
    verb.add_argument("--off", action="store_true", help="no longer")

    verb = _verb(verbs, "delete", "remove sessions and the files they made, for good", delete)
    verb.add_argument("ids", metavar="ID", nargs="+")
    verb.add_argument("--yes", action="store_true", help="do not ask")


Command = Callable[["Store", argparse.Namespace], int]


def _verb(verbs: Any, name: str, help: str, command: Command) -> argparse.ArgumentParser:
    def run(args: argparse.Namespace) -> int:
        with open_store(settings_of(args)) as store:
            return command(store, args)

    verb = verbs.add_parser(name, help=help)
    verb.set_defaults(run=run)
    return verb


def show_list(store: "Store", args: argparse.Namespace) -> int:
    found = rows(store, " ".join(args.words), args.limit)
    print(json.dumps(found, indent=2) if args.json else table(found) or "There are no sessions here.")
    return 0


def rows(store: "Store", search: str | None, limit: int) -> list[dict[str, Any]]:
    """Each session as plain values. One that says it runs and has no living process was lost."""
    found = []
    for session in store.sessions(search, limit=limit):
        row = asdict(session)
        if session.state in ("running", "waiting") and not store.running(session.id):
            row["state"] = "lost"
        found.append(row)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    from agent.cli.view.clean import one_line
    from agent.cli.view.result import fitted

    lines = []
    for row in rows:
        pin = "*" if row["pinned"] else " "
        lines.append(
            fitted(f"{pin} {row['id']:<22} {row['state']:<10} {ago(row['updated']):<12} {one_line(row['title'])}")
        )
    return "\n".join(lines)


def ago(at: float) -> str:
    seconds = max(0.0, time.time() - at)
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {word}{'s' if number > 1 else ''}"
    return "just now"


def show(store: "Store", args: argparse.Namespace) -> int:
    from agent.cli.view import choose

    session = store.session(args.id)
    view = choose(settings_of(args).home, json=args.json)
    for event in store.all(session.id):
        view.show(event)
    view.flush()
    return 0


def resume(args: argparse.Namespace) -> int:
    from agent.cli import chat

    return chat.run(args)


def search(store: "Store", args: argparse.Namespace) -> int:
    from agent.cli.view.clean import one_line

    hits = [asdict(hit) for hit in store.search(" ".join(args.words))]
    if args.json:
        print(json.dumps(hits, indent=2))
    for hit in [] if args.json else hits:
        print(f"{hit['session']:<22} {hit['seq']:>6} {hit['type']:<7} {one_line(hit['snippet'])}")
    if not hits and not args.json:
        print("Nothing was found.")
    return 0


def export(store: "Store", args: argparse.Namespace) -> int:
    from agent.cli.view.clean import clean

    session = store.session(args.id)
    by_name = args.output.suffix.removeprefix(".") if args.output else "md"
    format = args.format or (by_name if by_name in FORMATS else "md")
    text = getattr(store, FORMATS[format])(session.id)
    if args.output is None:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        print(clean(text) if sys.stdout.isatty() else text, end="")
        return 0
    try:
        args.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{args.output} cannot be written: {error.strerror}. Choose another file.") from None
    print(f"{session.id} → {args.output}")
    return 0


def rename(store: "Store", args: argparse.Namespace) -> int:
    store.rename(store.session(args.id).id, args.title)
    return 0


def pin(store: "Store", args: argparse.Namespace) -> int:
    store.pin(store.session(args.id).id, not args.off)
    return 0


def delete(store: "Store", args: argparse.Namespace) -> int:
    found = {session.id: session for session in map(store.session, args.ids)}
    if not args.yes:
        confirm([f"{session.id}  {session.title}" for session in found.values()])
    home = settings_of(args).home
    for name in found:
        gone = store.delete(name)
        for kept in (home / "artifacts" / name, *home.glob(f"people/*/artifacts/{name}")):
            shutil.rmtree(kept, ignore_errors=True)
        if not gone:
            print(f"{name}: gone from the list; another process is reading, its text leaves the disk a little later.")
    return 0


def confirm(lines: list[str]) -> None:
    from agent.cli.question import read_line, terminal
    from agent.cli.view.clean import one_line

    if not terminal():
        raise UserError("Nothing was deleted: nobody is there to ask. Add --yes.")
    print("\n".join(one_line(line) for line in lines), file=sys.stderr)
    answer = read_line(f"Delete {'these' if len(lines) > 1 else 'this'} for good? [y/N] ", lambda: True)
    if (answer or "").strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was deleted. Answer y to delete.")
