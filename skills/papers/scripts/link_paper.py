# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Name a paper in a model or dataset card: its address, and a BibTeX entry under "Citation". Prints JSON.

The Hub makes the link from the address. Metadata and text stay as they are; a paper that is there already is left.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ARXIV = re.compile(r"(\d{4}\.\d{4,5})(?:v\d+)?")
HEADING = re.compile(r"^#{1,3} +citation\b.*$", re.IGNORECASE | re.MULTILINE)


def entry(paper: str, title: str, authors: str, year: str) -> str:
    first = re.sub(r"\W", "", authors.split(",")[0].split(" and ")[0].split(" ")[-1]).lower() or "paper"
    rows = {"title": title, "author": authors, "year": year, "eprint": paper, "archivePrefix": "arXiv"}
    fields = ",\n".join(f"  {name} = {{{value}}}" for name, value in rows.items())
    return f"```bibtex\n@misc{{{first}{year},\n{fields}\n}}\n```"


def linked(text: str, paper: str, title: str, bibtex: str) -> str:
    line = f"Paper: [{title}](https://arxiv.org/abs/{paper})"
    heading = HEADING.search(text)
    if heading:
        end = heading.end()
        return f"{text[:end]}\n\n{line}\n\n{bibtex}\n{text[end:]}"
    return f"{text.rstrip()}\n\n## Citation\n\n{line}\n\n{bibtex}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card", type=Path, help="README.md of the repository")
    parser.add_argument("--paper", required=True, help="arXiv id or address")
    parser.add_argument("--title", required=True)
    parser.add_argument("--authors", required=True, help='BibTeX form: "Last, First and Last, First"')
    parser.add_argument("--year", required=True)
    parser.add_argument("--dry-run", action="store_true", help="print what would be written, change nothing")
    args = parser.parse_args()
    found = ARXIV.search(args.paper)
    if not found:
        print(f"'{args.paper}' holds no arXiv id such as 2305.18290. Give the id.", file=sys.stderr)
        return 2
    if not args.card.is_file():
        print(f"There is no {args.card}. Name the README.md of the repository.", file=sys.stderr)
        return 2
    paper, text = found[1], args.card.read_text("utf-8")
    there = re.search(rf"(?:arxiv\.org/(?:abs|pdf)|huggingface\.co/papers)/{re.escape(paper)}\b", text) is not None
    new = text if there else linked(text, paper, args.title, entry(paper, args.title, args.authors, args.year))
    if args.dry_run:
        print(new)
        return 0
    if new != text:
        args.card.write_text(new, "utf-8")
    print(json.dumps({"card": str(args.card), "paper": paper, "changed": new != text}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
