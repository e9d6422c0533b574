"""Take fields out of JSON on stdin: of an object, or of each object of a list. Prints JSON lines.

A field may be a dotted path, such as owner.name or items.0.id.
"""

import argparse
import json
import sys
from typing import Any


def at(value: Any, path: str) -> Any:
    for step in path.split("."):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", nargs="+")
    parser.add_argument("--from", dest="start", metavar="PATH", help="where the list lies, such as items")
    args = parser.parse_args()
    try:
        found = json.load(sys.stdin)
    except ValueError as error:
        print(f"stdin is no JSON: {error}", file=sys.stderr)
        return 2
    found = at(found, args.start) if args.start else found
    for row in found if isinstance(found, list) else [found]:
        print(json.dumps({field: at(row, field) for field in args.fields}, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
