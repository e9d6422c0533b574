"""The cures: what each does, which there are, and the order in which they work, whatever order they are asked for in.

Row by row: map and repair always, then drop_broken, drop_empty, mask, drop_private, drop_long. Then over all rows:
dedupe, dedupe_near, drop_leaks, balance, sample, split.
"""

from typing import Any

from tools.context import ToolError

# Arguments with their defaults; the order is that of work.
CURES: dict[str, dict[str, Any]] = {
    "map": {"method": None},
    "repair": {},
    "drop_broken": {},
    "drop_empty": {},
    "mask": {},
    "drop_private": {},
    "drop_long": {"max_tokens": 2048, "tokenizer": None},
    "dedupe": {},
    "dedupe_near": {},
    "drop_leaks": {},
    "balance": {"most": 10},
    "sample": {"rows": 10_000},
    "split": {"validation": 0.05},
}
USUAL = [{"do": "drop_broken"}, {"do": "drop_empty"}, {"do": "dedupe"}, {"do": "split"}]
NUMBERS = {"max_tokens": (1, 1 << 31), "most": (1, 1 << 31), "rows": (1, 1 << 40), "validation": (0, 1)}


def checked(cures: list[Any] | None) -> list[dict[str, Any]]:
    """The cures with all their arguments, in the order of work."""
    if cures is None:
        cures = USUAL
    found: dict[str, dict[str, Any]] = {"map": {"do": "map", "method": None}, "repair": {"do": "repair"}}
    for one in cures:
        given = {"do": one} if isinstance(one, str) else one
        if not isinstance(given, dict) or given.get("do") not in CURES:
            raise ToolError(f"Unknown cure {one!r}. Use {{'do': name}} with one of: {', '.join(CURES)}.")
        name = given["do"]
        known = CURES[name]
        if odd := set(given) - set(known) - {"do"}:
            raise ToolError(f"The cure {name!r} has no {min(odd)!r}; it has: {', '.join(known) or 'no arguments'}.")
        full = {"do": name, **known, **given}
        for key, (least, most) in NUMBERS.items():
            if key in full and not (isinstance(full[key], int | float) and least <= full[key] < most):
                raise ToolError(f"The cure {name!r}: {key} must be a number from {least}, not {full[key]!r}.")
        found[name] = full
    return [found[name] for name in CURES if name in found]
