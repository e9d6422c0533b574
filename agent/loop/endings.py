"""The ways a turn ends other than by an answer. They are BaseExceptions, because the engine below turns every Exception
of a cell into an observation and goes on: a lost sandbox or a person's stop must not be argued with."""


class TurnEnded(BaseException):
    """`state` and `exit_code` are what the session reports; the text is the reason, one line. `printed`: by the cell
    that was stopped."""

    state = "failed"
    exit_code = 1
    printed = ""

    @property
    def reason(self) -> str:
        return str(self)


class TurnCancelled(TurnEnded):
    state, exit_code = "cancelled", 130


class LimitReached(TurnEnded):
    state, exit_code = "limit", 3


class ApprovalNeeded(TurnEnded):
    """Nobody was there to say yes."""

    state, exit_code = "failed", 4


class TurnFailed(TurnEnded):
    """The model or the sandbox gave up for good."""


class TurnLost(TurnEnded):
    """The turn's outcome cannot be known."""

    state = "lost"
