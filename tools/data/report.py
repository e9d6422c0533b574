"""The audit as a page for people: verdicts first, then problems with their cures, then the rest."""

import pprint
from typing import Any

MARKS = {"ready": "ready", "needs mapping": "needs mapping", "incompatible": "no"}
TITLES = {
    "sft": "SFT",
    "dpo": "DPO",
    "grpo": "GRPO",
    "kto": "KTO",
    "reward": "reward model",
    "distillation": "distillation",
}
TITLES |= {
    "cpt": "continued pretraining",
    "classification": "classification",
    "token_classification": "token classification",
}
TITLES |= {"embeddings": "embeddings", "image_classification": "image classification", "vision_sft": "vision SFT"}
TITLES |= {"vision_dpo": "vision DPO", "object_detection": "object detection"}


def markdown(facts: dict[str, Any]) -> str:
    parts = [head(facts), verdicts(facts), mapping(facts), problems(facts), facts["next"], lengths(facts), rest(facts)]
    return "\n\n".join(part for part in parts if part)


def head(facts: dict[str, Any]) -> str:
    splits = ", ".join(f"{name} {count:,}" for name, count in facts["splits"].items())
    license_name = facts["license"] or "none told"
    lines = [
        f"**{facts['path']}**: {facts['rows']:,} rows, {size(facts['bytes'])} in {facts['files']} file(s). "
        f"Form: {facts['form'] or 'not recognised'}. Splits (good rows): {splits}. License: {license_name}.",
    ]
    return "\n".join([*lines, *(f"Note: {note}" for note in facts["notes"])])


def verdicts(facts: dict[str, Any]) -> str:
    """The methods that work and the one that was asked for; of the others only the names, to save a model's tokens."""
    lines = ["| method | verdict | sure | reason |", "|---|---|---|---|"]
    others = []
    for method, one in facts["verdicts"].items():
        if one["verdict"] == "incompatible" and method != facts["method"]:
            others.append(TITLES[method])
            continue
        sure = f"{one['confidence']:.0%}" if one["confidence"] else ""
        lines.append(f"| {TITLES[method]} | {MARKS[one['verdict']]} | {sure} | {one['reason'].replace('|', '/')} |")
    return "\n".join(lines if len(lines) > 2 else []) + (f"\n\nNot for: {', '.join(others)}." if others else "")


def mapping(facts: dict[str, Any]) -> str:
    method = facts["method"]
    one = facts["verdicts"].get(method)
    if not one or one["verdict"] != "needs mapping":
        return ""
    return f"Mapping for {TITLES[method]} (prepare_dataset applies it):\n\n```python\n{one['mapping']}```"


def problems(facts: dict[str, Any]) -> str:
    if not facts["problems"]:
        return "No problems found."
    lines = ["**Problems**", ""]
    for one in facts["problems"]:
        where = one.get("where", [])
        told = "; ".join(place(at, facts["files"] > 1) for at in where)
        more = f" (+{one['count'] - len(where):,} more)" if where and one["count"] > len(where) else ""
        count = f"{one['count']:,} " if one["count"] and "where" in one else ""
        count = f"about {one['count']:,} " if one["id"] == "long" else count
        cure = f" Cure: `{one['cure']}`" if one["cure"] else ""
        lines.append(f"- {count}{one['what']}{f': {told}{more}' if told else ''}.{cure}")
    return "\n".join(lines)


def place(at: dict[str, Any], several: bool) -> str:
    unit = "line" if "line" in at else "row"
    file = f"{at['file']} " if several else ""
    return f"{file}{unit} {at[unit]:,}" + (f" ({at['why']})" if at.get("why") else "")


def lengths(facts: dict[str, Any]) -> str:
    found = facts["lengths"]
    if not found:
        return ""
    guess = " (estimated)" if found["estimated"] else ""
    points = ", ".join(f"{name} {found[key]:,}" for name, key in (("median", "p50"), ("90 %", "p90"), ("99 %", "p99")))
    return (
        f"**Tokens**{guess}: {points}, longest about {found['longest']:,}, together about {found['total']:,}. "
        f"max_length {found['max_length']:,} cuts {found['share_over']:.1%} of the rows and "
        f"{found['share_of_tokens_cut']:.1%} of the tokens. {found['note']}"
    )


def rest(facts: dict[str, Any]) -> str:
    columns = "; ".join(f"{name} ({types(one)})" for name, one in facts["schema"].items())
    lines = [f"**Columns**: {columns}."]
    if facts["languages"]:
        lines.append(
            "**Languages**: " + ", ".join(f"{name} {share:.0%}" for name, share in facts["languages"].items()) + "."
        )
    if facts["labels"]:
        some = list(facts["labels"].items())[:12]
        lines.append("**Labels**: " + ", ".join(f"{label} {count:,}" for label, count in some) + ".")
    lines.append(f"**Fingerprint**: `{facts['fingerprint']}`")
    if facts["examples"]:
        first = pprint.pformat(facts["examples"][0], width=110, sort_dicts=False)
        lines.append(f"First row:\n\n```python\n{first[:1500]}\n```")
    return "\n\n".join(lines)


def types(one: dict[str, Any]) -> str:
    text = " or ".join(one["types"]) or "empty"
    empty = one["empty"] + one["missing"]
    return f"{text}, {empty:,} empty" if empty else text


def size(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return f"{count:,.1f} GB"


def prepared(folder: str, manifest: dict[str, Any]) -> str:
    """What was written and what was lost on the way."""
    lines = [f"`{folder}`, for {TITLES[manifest['method']]}: {manifest['rows_in']:,} rows read.", ""]
    lines += [f"- {name}: {one['rows']:,} rows, {size(one['bytes'])}" for name, one in manifest["files"].items()]
    lines += [f"- dropped by {name}: {count:,}" for name, count in manifest["dropped"].items()]
    lines += [f"- changed by {name}: {count:,}" for name, count in manifest["changed"].items()]
    names = ", ".join(f'"{name.removesuffix(".parquet")}": "{folder}/{name}"' for name in manifest["files"])
    load = f'load_dataset("parquet", data_files={{{names}}})'
    return "\n".join([*lines, "", f"```python\nfrom datasets import load_dataset\n\ndata = {load}\n```"])
