"""Declaring a tool: what it risks, and what it would cost before it is called.

The function stays what it is; the declaration is an attribute on it. Its signature and
Google docstring are the contract.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Risk = Literal["free", "network", "paid", "publish", "destructive"]
Function = TypeVar("Function", bound=Callable[..., dict])


@dataclass(frozen=True)
class Stake:
    """What a call would do, told before it is done: for the person who is asked, and for the budget."""

    what: str
    where: str = ""
    usd: float | None = 0.0  # expected; None: unknown, which is never taken for nothing
    usd_max: float | None = 0.0
    minutes: float | None = None


@dataclass(frozen=True)
class Declaration:
    """`stake` looks at the arguments of a call and tells its Stake; without one the call's name must do."""

    risk: Risk
    stake: Callable[..., Stake] | None = None


def tool(risk: Risk, stake: Callable[..., Stake] | None = None) -> Callable[[Function], Function]:
    """Mark a function as a tool with its risk."""

    def mark(function: Function) -> Function:
        function.declaration = Declaration(risk, stake)  # type: ignore[attr-defined]
        return function

    return mark


def declaration(function: Callable[..., Any]) -> Declaration | None:
    return getattr(function, "declaration", None)
