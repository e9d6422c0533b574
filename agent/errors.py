"""The errors a person sees as a single line: what is wrong, and what to do about it."""


class UserError(Exception):
    """A mistake a person can mend. The command line prints it without a traceback and exits with code 2."""


class Trouble(Exception):
    """Nobody's mistake and no fault of ours: a full disk, a file that cannot be opened. One line, exit code 1."""
