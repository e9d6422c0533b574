# /// script
# requires-python = ">=3.11"
# dependencies = ["pyarrow==26.0.1"]
# ///
"""Rows of a CSV, JSON, JSONL or Parquet file as training rows in JSONL. Prints JSON with what was kept and dropped.

ShareGPT conversations need no options. Rows with an empty text are dropped and counted; the input is never changed.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rows import ROLES, Unusable, form_of, normal, read


def messages_of_sharegpt(row: dict[str, Any], number: int) -> list[dict[str, str]]:
    talk = []
    for turn in row["conversations"]:
        said = str(turn.get("from", turn.get("role", "")))
        if said.lower() not in ROLES:
            raise Unusable(f"row {number}: the role '{said}' is not known. Known are {', '.join(sorted(ROLES))}.")
        talk.append({"role": ROLES[said.lower()], "content": turn.get("value", turn.get("content"))})
    return talk


def column(row: dict[str, Any], name: str) -> Any:
    if name not in row:
        raise Unusable(f"There is no column '{name}'. There are: {', '.join(row)}.")
    return row[name]


def converted(row: dict[str, Any], number: int, args: argparse.Namespace) -> dict[str, Any]:
    kept = {name: column(row, name) for name in args.keep}
    if args.to == "messages":
        if form_of(row) == "sharegpt":
            talk = messages_of_sharegpt(row, number)
        elif form_of(row) == "sft-messages":
            talk = row["messages"]
        elif args.user and args.assistant:
            talk = [
                {"role": "user", "content": column(row, args.user)},
                {"role": "assistant", "content": column(row, args.assistant)},
            ]
        else:
            raise Unusable(f"Say --user and --assistant. The columns are: {', '.join(row)}.")
        if args.system and not any(turn["role"] == "system" for turn in talk):
            talk = [{"role": "system", "content": args.system}, *talk]
        return {"messages": talk, **kept}
    names = {"prompt": args.prompt}
    if args.to == "dpo":
        names |= {"chosen": args.chosen, "rejected": args.rejected}
    elif args.to == "prompt-completion":
        names |= {"completion": args.assistant or "completion"}
    return {new: column(row, old) for new, old in names.items()} | kept


def is_whole(row: dict[str, Any]) -> bool:
    if "messages" in row:
        said = [turn for turn in row["messages"] if turn["role"] in ("user", "assistant")]
        return bool(said) and all(normal(turn["content"]) or turn.get("tool_calls") for turn in said)
    return all(normal(value) for name, value in row.items() if name in ("prompt", "chosen", "rejected", "completion"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path, help="a new .jsonl file")
    parser.add_argument("--to", choices=["messages", "prompt-completion", "dpo", "grpo"], default="messages")
    parser.add_argument("--user", help="column with what the person says")
    parser.add_argument("--assistant", help="column with the answer")
    parser.add_argument("--system", help="a system message for every row that has none")
    parser.add_argument("--prompt", default="prompt", help="column with the prompt (default: %(default)s)")
    parser.add_argument("--chosen", default="chosen", help="column with the better answer (default: %(default)s)")
    parser.add_argument("--rejected", default="rejected", help="column with the worse answer (default: %(default)s)")
    parser.add_argument("--keep", action="append", default=[], metavar="COLUMN", help="keep it; may be given again")
    args = parser.parse_args()
    try:
        if args.out.resolve() == args.source.resolve():
            raise Unusable("The output is the input. Name a new file.")
        rows = read(args.source)
        made = [converted(row, number, args) for number, row in enumerate(rows, 1)]
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    whole = [row for row in made if is_whole(row)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in whole)
    forms = Counter(form_of(row) for row in whole)
    told = {"out": str(args.out), "rows": len(whole), "dropped_empty": len(made) - len(whole), "form": dict(forms)}
    print(json.dumps(told))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
