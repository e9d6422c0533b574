"""What a kernel is written for: cards by the names people use, and the shortest time that card could take.

The table is `assets/targets.toml`; a bare `sm_90` or `gfx942` is a target too, without data-sheet numbers.
"""

import re
import tomllib
from typing import Any

from project import SKILL, Mistake

TARGETS = tomllib.loads((SKILL / "assets" / "targets.toml").read_text(encoding="utf-8"))["target"]


def target(name: str) -> dict[str, Any]:
    plain = short(name)
    for one in TARGETS:
        if short(one["name"]) == plain:
            return dict(one)
    if found := re.fullmatch(r"sm_?(\d{2,3})a?", name.lower()):
        return {"name": name, "backend": "cuda", "arch": f"sm_{found[1]}"}
    if re.fullmatch(r"gfx\w+", name.lower()):
        return {"name": name, "backend": "rocm", "arch": name.lower()}
    known = ", ".join(one["name"] for one in TARGETS)
    raise Mistake(f"'{name}' is no target that is known here. Known are {known}, and sm_XX or gfxXXX.")


def short(name: str) -> str:
    """H100 for "NVIDIA H100 80GB", MI300 for MI300X."""
    words = re.sub(r"(?i)\b(nvidia|amd|geforce|tesla|instinct|sxm\d?|pcie|nvl|\d+ ?gb)\b", "", name)
    return re.sub(r"[\W_]+", "", words).lower().removesuffix("x") or name.lower()


def bound_us(cost: dict[str, float], card: dict[str, Any]) -> float | None:
    """Microseconds below which no kernel can be on this card: moving the bytes, or doing the operations."""
    if not card.get("bandwidth"):
        return None
    times = [cost["bytes"] / (card["bandwidth"] * 1e6)]
    if card.get("flops") and cost.get("flops"):
        times.append(cost["flops"] / (card["flops"] * 1e6))
    return round(max(times), 3)
