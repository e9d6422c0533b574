"""A tool that would train somewhere for money: what is asked names a run, and its script can be changed on the card."""

from tools import envelope
from tools.declare import Stake, tool


@tool("paid", stake=lambda run: Stake(f"train {run} on a rented GPU", "rent.example", usd=1.5, usd_max=3.0, minutes=30))
def train_elsewhere(run: str) -> dict:
    """Train a run on a rented machine.

    Args:
        run: The run's name.
    """
    return envelope.text(f"{run} was trained")
