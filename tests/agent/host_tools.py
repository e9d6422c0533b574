"""Tools as the tests need them: harmless, broken, slow, costly. What costs writes one line per act into a file of the
home folder, so that a test sees how often it really happened."""

import threading
import time
from typing import Any

from tools import envelope
from tools.context import ToolError, here
from tools.declare import Stake, tool

started = threading.Event()  # a slow tool is at work
together = threading.Barrier(16)
waits = threading.Lock()


@tool("free")
def add(left: int, right: int = 2, label: str = "sum") -> dict:
    """Add two numbers.

    Args:
        left: The first number.
        right: The second number.
        label: What to call the result.
    """
    return envelope.text(f"{label}: {left + right}", got=left + right)


@tool("free")
def mirror(value: Any) -> dict:
    """Give back what came in."""
    return envelope.text("mirrored", got=value)


@tool("free")
def refuse(reason: str) -> dict:
    """Fail in words for the caller."""
    raise ToolError(reason)


@tool("free")
def crash() -> dict:
    """Fail as a mistake of ours would."""
    raise ZeroDivisionError("division by zero in the tool")


@tool("free")
def leave() -> dict:
    """Try to end the host."""
    raise SystemExit(3)


@tool("free")
def no_json() -> dict:
    """Give back what JSON cannot hold."""
    return {"type": "text", "text": "", "value": {1, 2, 3}, "self": threading.Lock()}


@tool("free")
def deep() -> dict:
    """Give back a value nested deeper than JSON writers go."""
    value: list = []
    for _ in range(100_000):
        value = [value]
    return {"type": "text", "text": "deep", "value": value}


@tool("free")
def large(size: int) -> dict:
    """Give back a long text."""
    return envelope.text("x" * size)


@tool("free")
def meet() -> dict:
    """Come back only when sixteen calls are under way at once."""
    together.wait(20)
    return envelope.text("met")


@tool("free")
def slow(seconds: float, listens: bool = True) -> dict:
    """Work for a while; one that does not listen does not notice a cancel."""
    started.set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if listens:
            here().check()
        time.sleep(0.02)
    return envelope.text("slept")


@tool("free")
def tell_secret() -> dict:
    """Give back the host's token, as a careless tool might."""
    return envelope.text(f"the token is {here().hf_token}", raw=here().hf_token)


def act(line: str) -> None:
    with waits, (here().home / "acts.log").open("a") as file:
        file.write(f"{line}\n")


@tool("paid", stake=lambda item, usd=1.0, seconds=0.0: Stake(f"buy {item}", "shop.example", usd, usd))
def buy(item: str, usd: float = 1.0, seconds: float = 0.0) -> dict:
    """Spend money."""
    act(f"buy {item}")
    started.set()
    time.sleep(seconds)
    return envelope.text(f"bought {item}", usd=usd)


@tool("paid")
def gamble(item: str) -> dict:
    """Spend nobody knows how much."""
    act(f"gamble {item}")
    return envelope.text(f"gambled on {item}")


@tool("paid", stake=lambda item: Stake(f"buy {item}", "shop.example", 1.0, 1.0))
def buy_badly(item: str) -> dict:
    """Spend money and fail before the end is known."""
    act(f"buy_badly {item}")
    raise ConnectionError("the shop hung up")


@tool("paid", stake=lambda item: Stake(f"buy {item}", "shop.example", 1.0, 1.0))
def sold_out(item: str) -> dict:
    """Refuse before any money is spent."""
    raise ToolError(f"{item} is sold out.")


@tool("publish", stake=lambda name: Stake(f"publish {name}", "hub.example"))
def publish(name: str) -> dict:
    """Show something to the world."""
    act(f"publish {name}")
    return envelope.text(f"published {name}")


@tool("destructive", stake=lambda name: Stake(f"delete {name}", "local"))
def delete(name: str) -> dict:
    """Remove something."""
    act(f"delete {name}")
    return envelope.text(f"deleted {name}")
