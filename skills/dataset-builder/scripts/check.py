# /// script
# requires-python = ">=3.11"
# dependencies = ["pyarrow==26.0.1"]
# ///
"""Is a file of rows fit for training, and for which method? Prints JSON; exit code 1 when it is not ready.

Looks at names and at values: roles, empty texts, duplicates, lengths, likely secrets. Lengths are in characters.
"""

import argparse
import json
import re
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rows import ROLES, Unusable, form_of, normal, read, texts

MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
SECRET = re.compile(r"\b(?:hf_\w{30,}|sk-[\w-]{20,}|AKIA[A-Z0-9]{16}|ghp_\w{30,})|-----BEGIN [A-Z ]*PRIVATE KEY")
METHODS = {
    "sft-messages": ["sft"], "sft-prompt": ["sft"], "text": ["sft", "continued pre-training"], "dpo": ["dpo", "reward"],
    "kto": ["kto"], "grpo": ["grpo"], "classification": ["classification"], "tokenised": ["sft"],
    "pairs": ["embeddings"],
}  # fmt: skip
NEXT = {
    "sharegpt": "convert.py maps the roles to messages.",
    "prm": "Step-wise reward data: neither SFT nor GRPO take it.",
    "unknown": "Name the columns: convert.py FILE OUT --user COLUMN --assistant COLUMN.",
}
TEXTS = {  # columns that must not be empty
    "sft-prompt": ("prompt", "completion"),
    "dpo": ("chosen", "rejected"),
    "grpo": ("prompt",),
    "kto": ("prompt", "completion"),
    "pairs": ("anchor", "positive"),
    "text": ("text",),
    "classification": ("text",),
}
SHOWN = 10


def wrong_in(row: dict[str, Any], form: str) -> str | None:
    """The first thing that is wrong with a row."""
    if form == "sft-messages":
        return wrong_talk(row["messages"])
    for name in TEXTS.get(form, ()):
        if not normal(row.get(name)):
            return f"{name} is empty"
    if form == "dpo" and row["chosen"] == row["rejected"]:
        return "chosen and rejected are the same"
    if form == "kto" and not isinstance(row["label"], bool):
        return "label is neither true nor false"
    return None


def wrong_talk(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        return "messages is no list of role and content"
    for one in messages:
        if one.get("role") not in set(ROLES.values()):
            return f"the role {one.get('role')!r} is not system, user, assistant or tool"
        if not normal(one.get("content")) and not one.get("tool_calls"):
            return f"a turn of {one['role']} is empty"
    if not any(one["role"] == "assistant" for one in messages):
        return "no assistant turn: there is nothing to learn"
    return None


def check(rows: list[dict[str, Any]]) -> dict[str, Any]:
    forms = Counter(form_of(row) for row in rows)
    form = forms.most_common(1)[0][0]
    problems = [{"row": at, "what": what} for at, row in enumerate(rows, 1) if (what := wrong_in(row, form_of(row)))]
    if len(forms) > 1:
        told = ", ".join(f"{count} {name}" for name, count in forms.items())
        problems.insert(0, {"row": None, "what": f"several forms in one file: {told}"})
    seen = Counter(normal(list(row.values())) for row in rows)
    lengths = sorted(sum(len(text) for value in row.values() for text in texts(value)) for row in rows)
    everything = [" ".join(text for value in row.values() for text in texts(value)) for row in rows]
    secrets = [at for at, text in enumerate(everything, 1) if SECRET.search(text)]
    if form not in METHODS:
        verdict, after = "unusable", NEXT[form]
    elif problems:
        verdict, after = "mend", "Drop or mend the rows named in problems, then check again."
    else:
        verdict, after = "ready", "Split it with split.py."
    return {
        "rows": len(rows),
        "columns": sorted({name for row in rows for name in row}),
        "form": form,
        "methods": METHODS.get(form, []),
        "verdict": verdict,
        "next": after,
        "problems_total": len(problems),
        "problems": problems[:SHOWN],
        "duplicates": sum(count - 1 for count in seen.values()),
        "characters": {"median": statistics.median(lengths), "p95": percentile(lengths, 0.95), "max": lengths[-1]},
        "rows_with_mail_addresses": sum(bool(MAIL.search(text)) for text in everything),
        "rows_with_secrets": secrets[:SHOWN],
    }


def percentile(ordered: list[int], share: float) -> int:
    return ordered[int(share * (len(ordered) - 1))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help=".jsonl, .json, .csv, .tsv or .parquet")
    try:
        told = check(read(parser.parse_args().file))
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(told, indent=2))
    return 0 if told["verdict"] == "ready" else 1


if __name__ == "__main__":
    sys.exit(main())
