"""The slash commands of a conversation: one list for the terminal and the page.

A line that begins with one of them is for the front end; every other line, /names of skills included, is a task. Each
front end does them in its own way; nothing is done here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    name: str
    what: str
    argument: str = ""
    places: tuple[str, ...] = ("terminal", "page")

    @property
    def usage(self) -> str:
        return f"{self.name} {self.argument}".rstrip()


COMMANDS = (
    Command("help", "this list"),
    Command("new", "begin another session"),
    Command("model", "go on with another model; without SPEC: which one it is", "SPEC"),
    Command("file", "give the next task this file; @PATH in the text does the same", "PATH", ("terminal",)),
    Command("sessions", "the last sessions", places=("terminal",)),
    Command("resume", "go on with that session", "ID", ("terminal",)),
    Command("cost", "tokens and money of this session"),
    Command("stop", "end the running turn", places=("page",)),
    Command("export", "take the session along as Markdown, JSON lines or a page", "md|jsonl|html", ("page",)),
    Command("rename", "give the session another title", "TITLE", ("page",)),
    Command("quit", "leave; Ctrl-D does the same", places=("terminal",)),
)


def commands(place: str) -> list[Command]:
    return [command for command in COMMANDS if place in command.places]
