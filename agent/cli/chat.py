"""`chat`: a conversation in the terminal, one session at a time, with what was typed before at hand.

A line that begins with a known slash word is a command of this program; every other line goes to the session, /names of
skills included. Files are given by /file or as @path in the text. Needs a terminal; scripts use `run`.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.opening import add_run_flags, check_files, mode_of, open_screen, open_store, settings_of
from agent.errors import UserError
from agent.slash import commands

if TYPE_CHECKING:
    from agent.cli.turn import Screen
    from agent.cli.view import View
    from agent.policy import Mode
    from agent.settings import Settings
    from agent.store import Store

KEPT = 2_000  # lines of history
MENTION = re.compile(r"(?<!\S)@(?:\"([^\"]+)\"|(\S+))")


def add(commands: Any) -> None:
    parser = commands.add_parser("chat", help="talk in the terminal, turn after turn")
    parser.add_argument("--session", metavar="ID", help="go on with this session")
    add_run_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from agent.cli.question import terminal
    from agent.cli.turn import leave
    from agent.cli.view import choose

    if not (terminal() and sys.stdout.isatty()):
        raise UserError("chat needs a terminal. In a script use `python -m agent run TASK`.")
    settings = settings_of(args)
    with open_store(settings) as store:
        chat = Chat(settings, store, choose(settings.home), mode_of(args))
        with history(settings.home / "chat_history", store):
            try:
                if args.session:
                    chat.resume(args.session)
                chat.talk()
            finally:
                chat.close()
    if chat.stray:
        leave(0)
    return 0


class Chat:
    """The loop and its commands. The session is made with the first task, not before."""

    def __init__(self, settings: "Settings", store: "Store", view: "View", mode: "Mode"):
        self.settings, self.store, self.view, self.mode = settings, store, view, mode
        view.typed = True
        self.screen: Screen | None = None
        self.files: list[Path] = []
        self.stray = False

    def talk(self) -> None:
        self.view.notice("Say what you want. /help shows the commands, Ctrl-C stops a turn, Ctrl-D leaves.")
        while True:
            try:
                line = read()
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                continue
            try:
                if not self.take(line.strip()):
                    return
            except UserError as error:
                self.view.notice(f"error: {error}")

    def take(self, line: str) -> bool:
        """False when the person wants to leave."""
        if not line:
            return True
        word, _, rest = line.partition(" ")
        name = word.removeprefix("/")
        if word in ("/quit", "/exit"):
            return False
        known = [command.name for command in commands("terminal")]
        if word.startswith("/") and name in known:
            getattr(self, name)(rest.strip())
        elif word.startswith("/") and (near := difflib.get_close_matches(name, known, 1, 0.75)):
            raise UserError(f"There is no command {word}. Did you mean /{near[0]}?")
        else:
            self.task(line)
        return True

    def task(self, text: str) -> None:
        said, mentioned = mentions(text)
        files = check_files([*self.files, *mentioned])
        if self.screen is None:
            self.open(None)
        assert self.screen
        self.files = []
        self.screen.turn(said, files)

    def open(self, session_id: str | None) -> None:
        self.close()
        self.screen = open_screen(self.settings, self.store, self.view, self.mode, True, session_id)
        self.view.notice(f"session {self.screen.session.id}, model {self._known_model()}")

    def close(self) -> None:
        screen, self.screen = self.screen, None
        if screen:
            screen.close()
            self.stray = self.stray or screen.stray

    # -- commands ----------------------------------------------------------------------------------------------------

    def help(self, rest: str) -> None:
        for command in commands("terminal"):
            self.view.notice(f"  /{command.usage:<12} {command.what}")
        self.view.notice("  /NAME …       everything else goes to the session, as the name of a skill")

    def new(self, rest: str) -> None:
        self.close()
        self.files = []
        self.view.notice("A new session begins with your next task.")

    def model(self, rest: str) -> None:
        if not rest:
            self.view.notice(f"model {self._known_model()}")
            return
        from agent.cli.models import choose

        wanted = self.settings.model_copy(update={"model": rest})
        choice = choose(wanted)  # a mistake in the name leaves everything as it is
        self.settings = wanted
        if self.screen:
            self.open(self.screen.session.id)
        else:
            self.view.notice(f"The next session takes {choice.label}.")

    def file(self, rest: str) -> None:
        if not rest:
            raise UserError("No file was named. Write /file PATH.")
        self.files += check_files([Path(rest.strip("\"'")).expanduser()])
        self.view.notice(f"{rest} goes with your next task.")

    def sessions(self, rest: str) -> None:
        from agent.cli.sessions import rows, table

        self.view.notice(table(rows(self.store, rest or None, 15)) or "There are no sessions yet.")

    def resume(self, rest: str) -> None:
        if not rest:
            raise UserError("No session was named. /sessions shows them.")
        known = self.store.session(rest)
        self.open(known.id)
        self.view.notice(f"“{known.title}”, {known.last_seq} events so far")

    def cost(self, rest: str) -> None:
        from agent.cli.view.tally import Tally

        tally = Tally()
        for event in self.store.all(self.screen.session.id) if self.screen else ():
            tally.add(event)
        self.view.notice(", ".join(part for part in (tally.tokens(), tally.money()) if part))

    def _known_model(self) -> str:
        label = self.store.session(self.screen.session.id).model if self.screen else ""
        return label or self.settings.model


def mentions(text: str) -> tuple[str, list[Path]]:
    """The text with the @ of files that exist taken off, and those files. Other words with an @ stay as they are."""
    files: list[Path] = []

    def plain(found: re.Match[str]) -> str:
        named = found[1] or found[2]
        for path in (named, named.rstrip(".,;:!?)")):
            if Path(path).expanduser().is_file():
                files.append(Path(path).expanduser())
                return found[0].replace("@", "", 1)
        return found[0]

    return MENTION.sub(plain, text), files


def read() -> str:
    """One input; a backslash at the end of a line continues it on the next."""
    lines = [input("› ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input("… "))
    return "\n".join(lines)


@contextmanager
def history(path: Path, store: "Store") -> Iterator[None]:
    """What was typed, kept without secrets for the next time, readable by its owner alone."""
    try:
        import readline
    except ImportError:  # some Pythons are built without it
        yield
        return
    readline.set_history_length(KEPT)
    readline.parse_and_bind("tab: complete")
    if path.exists():
        readline.read_history_file(path)
    try:
        yield
    finally:
        count = readline.get_current_history_length()
        lines = (readline.get_history_item(number) or "" for number in range(max(1, count - KEPT + 1), count + 1))
        text = "".join(f"{store.redactor.text(' '.join(line.split()))}\n" for line in lines)
        path.touch(mode=0o600)
        path.write_text(text)
