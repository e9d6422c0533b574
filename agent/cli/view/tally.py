"""What a session took so far, counted from its events: tokens, money, steps. What nobody knows is told as unknown."""

from dataclasses import dataclass, field
from typing import Any

from agent.events import Event


@dataclass
class Tally:
    tokens_in: int = 0
    tokens_out: int = 0
    model_usd: float | None = None  # None: no call told its price
    unpriced: int = 0  # calls whose price nobody told
    estimated: bool = False
    step: int = 0
    model: str = ""
    context: int | None = None
    acts: dict[str, dict[str, Any]] = field(default_factory=dict)  # the latest record of each priced act
    artifacts: list[dict[str, Any]] = field(default_factory=list)

    def add(self, event: Event) -> None:
        data = event.data
        self.step = max(self.step, data.get("step") or 0)
        if event.type == "usage":
            self.tokens_in += data["input_tokens"]
            self.tokens_out += data["output_tokens"]
            self.estimated = self.estimated or bool(data.get("estimated"))
            self.model = data.get("model") or self.model
            self.context = data.get("context") or self.context
            if data.get("usd") is None:
                self.unpriced += 1
            else:
                self.model_usd = (self.model_usd or 0.0) + data["usd"]
        elif event.type == "approval" and data.get("priced"):
            self.acts[data["id"]] = data
        elif event.type == "artifact":
            self.artifacts.append(data)

    def spent(self) -> float:
        return sum(record.get("spent") or 0.0 for record in self.acts.values())

    def held(self) -> float:
        return sum(record.get("held") or 0.0 for record in self.acts.values())

    def tokens(self) -> str:
        about = "about " if self.estimated else ""
        return f"{about}{short(self.tokens_in)} tokens in, {short(self.tokens_out)} out"

    def money(self) -> str:
        """Empty when no price was ever told and nothing was bought."""
        parts = []
        if self.model_usd is not None:
            parts.append(f"${self.model_usd:.3f} for the model{' and more' if self.unpriced else ''}")
        if self.acts:
            parts.append(f"${self.spent():.2f} spent")
        if self.held():
            parts.append(f"${self.held():.2f} reserved")
        return ", ".join(parts)


def short(count: int) -> str:
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"
