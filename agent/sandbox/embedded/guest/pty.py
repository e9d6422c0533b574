"""Pseudo-terminals for commands: opening, sizing, and making one the controlling terminal without code after fork."""

import fcntl
import os
import struct
import termios

# A session's leader that opens a terminal by its name gets it as controlling terminal. The shell does just that, then
# becomes the command; a preexec function would run Python in a forked copy of a process that has threads.
ADOPT = 'exec "$@" <>"$0"'


def open_terminal(columns: int, rows: int) -> tuple[int, int]:
    """A new terminal of that size: the descriptors of our side and of the command's side."""
    ours, theirs = os.openpty()
    resize(ours, columns, rows)
    return ours, theirs


def resize(terminal: int, columns: int, rows: int) -> None:
    """Set the size; the kernel sends SIGWINCH to the foreground process group."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def adopting(terminal: int, argv: list[str]) -> list[str]:
    """The command line that runs `argv` with `terminal` as its controlling terminal, given a new session."""
    return ["/bin/sh", "-c", ADOPT, os.ttyname(terminal), *argv]
