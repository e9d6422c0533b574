"""Tools for the tests of the command line: one that would cost money, one that does not hear a cancel."""

import time

from tools import envelope
from tools.declare import Stake, tool


def price(hours: int = 1, note: str = "") -> Stake:
    return Stake(f"rent a machine for {hours} hours", "rent.example", usd=2.0 * hours, usd_max=2.0 * hours)


@tool("paid", stake=price)
def rent(hours: int = 1, note: str = "") -> dict:
    """Rent a machine.

    Args:
        hours: For how long.
        note: Whatever one wants to say.
    """
    return envelope.text(f"rented for {hours} hours")


@tool("free")
def doze(seconds: int) -> dict:
    """Sleep and listen to nobody."""
    time.sleep(seconds)
    return envelope.text("slept")
