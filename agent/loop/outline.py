"""The model's plan for long work: shown to the person while it goes on, and kept when the conversation is shortened."""

from collections.abc import Callable
from typing import Any

from agent.toolbox import Tool
from tools import envelope
from tools.context import ToolError
from tools.declare import Declaration

MOST = 20


def plan_tool(told: Callable[[dict[str, Any]], None]) -> dict[str, Tool]:
    """`told` gets each plan: its steps and how many of them are done."""

    def show_plan(steps: list[str], done: int = 0) -> dict:
        """For long work: show the person your steps, and call it again with how many of them are done.

        Args:
            steps: A few words each, in order.
            done: How many of them, from the first, are done.
        """
        if not steps or len(steps) > MOST or not 0 <= done <= len(steps):
            raise ToolError(f"A plan has 1 to {MOST} steps, and done counts from 0 to their number.")
        plan = {"steps": [" ".join(step.split())[:200] for step in steps], "done": done}
        told(plan)
        return envelope.text(as_text(plan))

    return {"show_plan": Tool("show_plan", show_plan, Declaration("free"))}


def as_text(plan: dict[str, Any]) -> str:
    marks = ["x"] * plan["done"] + [" "] * (len(plan["steps"]) - plan["done"])
    return "\n".join(f"[{mark}] {step}" for mark, step in zip(marks, plan["steps"], strict=True))
