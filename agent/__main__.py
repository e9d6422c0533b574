"""`python -m agent`: reads the command line, runs one command, turns its end into an exit code.

0 succeeded, 1 failed, 2 the person's mistake, 130 cancelled; commands add codes of their own. A `UserError` is one line
on stderr unless `--debug` is given, and so is `Trouble`, such as a full disk; other exceptions keep their traceback.
"""

import argparse
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from agent import __version__, cli
from agent.errors import Trouble, UserError

CANCELLED = 130
READER_GONE = 141
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


BEGIN = """\
to begin with:
  python -m agent doctor          what works here, and what to do about the rest
  python -m agent ui              the page in the browser
  python -m agent run "describe examples/training-runs.csv"
"""


class Parser(argparse.ArgumentParser):
    """Sub-parsers are made from the same class, so `--debug` is understood behind every command too."""

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, **kwargs)
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )

    def error(self, message: str) -> NoReturn:
        """One line, as for every other mistake, instead of all the flags."""
        self.exit(2, f"error: {message}. `{self.prog} --help` tells what there is.\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What a command does not know is told with that command's name, not with that of the whole program."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m agent",
        description="Modelsmith, a self-hosted agent that makes models.",
        epilog=BEGIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"modelsmith {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def help(args: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    parser.set_defaults(run=help)
    for name in cli.MODULES:
        importlib.import_module(name).add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    debug = False
    open_streams()
    try:
        arguments = build_parser().parse_args(argv)
        debug = getattr(arguments, "debug", False)
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Trouble as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if debug or (error.name or "agent").partition(".")[0] in ("agent", "tools"):
            raise
        print(
            f"error: {sys.executable} lacks {error.name}. `make setup` installs all that is needed into .venv: "
            "`.venv/bin/python -m agent …`; or `pip install -r requirements.txt`.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return CANCELLED
    except BrokenPipeError:
        forget_stdout()
        return READER_GONE
    except OSError as error:
        if debug or error.errno not in DISK:
            raise
        forget_stdout()
        place = error.filename or "the output"
        print(
            f"error: {place} cannot be written: {error.strerror}. Free some space, or write elsewhere.", file=sys.stderr
        )
        return 1


def open_streams() -> None:
    """A parent may have closed them; then there is nothing to read and nobody to read what is written."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def forget_stdout() -> None:
    """Python flushes it once more on its way out; let that go nowhere instead of complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
