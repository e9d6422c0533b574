# /// script
# requires-python = ">=3.11"
# dependencies = ["PyYAML==6.0.3"]
# ///
"""Write one small command line program for each operation of an OpenAPI 3 description. Prints JSON.

Not generated: multipart uploads, OAuth flows, callbacks. References into other files are not followed.
"""

import argparse
import json
import keyword
import pprint
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parents[1] / "assets"
METHODS = ("get", "post", "put", "patch", "delete")
PROGRAM = '''"""{summary}"""

import sys

import api

OPERATION = {operation}

if __name__ == "__main__":
    sys.exit(api.main(OPERATION))
'''
RESERVED = {"body", "dry_run", "help", "h"}


class Refused(Exception):
    """What is wrong with the description, in one line."""


def read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
        if path.suffix in (".yaml", ".yml"):
            import yaml

            found = yaml.safe_load(text)
        else:
            found = json.loads(text)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from None
    except Exception as error:  # of whichever reader it was
        raise Refused(f"{path} is neither JSON nor YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict) or not str(found.get("openapi", "")).startswith("3"):
        kind = (
            "Swagger 2: convert it to OpenAPI 3 first"
            if isinstance(found, dict) and "swagger" in found
            else "no OpenAPI 3"
        )
        raise Refused(f"{path} is {kind}.")
    return found


class Description:
    def __init__(self, whole: dict[str, Any]):
        self.whole = whole

    def real(self, part: Any, depth: int = 0) -> dict[str, Any]:
        """The part that a local reference stands for."""
        if depth > 20:
            raise Refused("The references of the description run in a circle.")
        if isinstance(part, dict) and "$ref" in part:
            found: Any = self.whole
            steps = part["$ref"].removeprefix("#/").split("/") if part["$ref"].startswith("#/") else [part["$ref"]]
            for step in steps:
                found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
            if found is None:
                raise Refused(f"The reference {part['$ref']} leads nowhere. Put everything into one file.")
            return self.real(found, depth + 1)
        return part if isinstance(part, dict) else {}

    def operations(self) -> list[dict[str, Any]]:
        found = []
        for path, item in (self.whole.get("paths") or {}).items():
            item = self.real(item)
            for method in METHODS:
                if method in item:
                    found.append(self.operation(path, method, item[method], item.get("parameters", [])))
        return found

    def operation(self, path: str, method: str, told: dict[str, Any], shared: list[Any]) -> dict[str, Any]:
        listed = {(one["in"], one["name"]): one for one in map(self.real, [*shared, *told.get("parameters", [])])}
        parameters = [self.parameter(one) for one in listed.values() if one["in"] in ("path", "query", "header")]
        parameters.sort(key=lambda one: path.find(f"{{{one['name']}}}") if one["in"] == "path" else len(path))
        content = self.real(told.get("requestBody")).get("content") or {}
        media = next((kind for kind in content if "json" in kind), None)
        parameters += self.body_fields(self.real(content[media].get("schema"))) if media else []
        taken: set[str] = set(RESERVED)
        for one in parameters:
            one["dest"] = free_name(one["name"], taken)
        server = self.real(next(iter(told.get("servers") or self.whole.get("servers") or []), {})).get("url", "")
        return {
            "id": told.get("operationId") or f"{method} {path}",
            "summary": line(told.get("summary") or told.get("description") or f"{method.upper()} {path}"),
            "method": method.upper(),
            "path": path,
            "server": server,
            "has_body": media is not None,
            "security": self.security(told),
            "parameters": parameters,
        }

    def parameter(self, one: dict[str, Any]) -> dict[str, Any]:
        shape = self.shape(self.real(one.get("schema")))
        required = bool(one.get("required") or one["in"] == "path")
        return {
            "name": one["name"],
            "in": one["in"],
            "required": required,
            "help": line(one.get("description", "")),
            **shape,
        }

    def body_fields(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        fields: dict[str, Any] = {}
        needed: set[str] = set()
        for part in [schema, *map(self.real, schema.get("allOf", []))]:
            fields |= part.get("properties") or {}
            needed |= set(part.get("required") or [])
        return [
            {
                "name": name,
                "in": "body",
                "required": name in needed,
                "help": line(self.real(one).get("description", "")),
            }
            | self.shape(self.real(one))
            for name, one in fields.items()
            if not self.real(one).get("readOnly")
        ]

    def shape(self, schema: dict[str, Any]) -> dict[str, Any]:
        kind = schema.get("type")
        if isinstance(kind, list):  # OpenAPI 3.1: ["string", "null"]
            kind = next((one for one in kind if one != "null"), "string")
        if kind == "array":
            inner = self.shape(self.real(schema.get("items")))
            return {"type": "json"} if inner["type"] == "json" else {**inner, "many": True}
        if kind not in ("integer", "number", "boolean", "string"):
            return {"type": "json" if kind == "object" or not kind else "string"}
        choices = [one for one in schema.get("enum") or [] if one is not None]
        return {"type": kind, **({"choices": choices} if choices and kind != "boolean" else {})}

    def security(self, told: dict[str, Any]) -> dict[str, str] | None:
        """The first scheme that fits into a header; API_TOKEN goes there."""
        schemes = (self.whole.get("components") or {}).get("securitySchemes") or {}
        for wanted in told.get("security", self.whole.get("security") or []):
            for name in wanted:
                scheme = self.real(schemes.get(name))
                if scheme.get("type") == "apiKey" and scheme.get("in") == "header":
                    return {"kind": "header", "name": scheme["name"]}
                if scheme.get("type") == "http" and scheme.get("scheme") == "basic":
                    return {"kind": "basic"}
                if scheme.get("type") in ("http", "oauth2", "openIdConnect"):
                    return {"kind": "bearer"}
        return None


def line(text: str) -> str:
    words = " ".join(str(text).split()).replace('"', "'").replace("\\", "/")
    return words if len(words) <= 200 else f"{words[:199]}…"


def free_name(name: str, taken: set[str]) -> str:
    made = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower() or "value"
    made = f"{made}_" if keyword.iskeyword(made) else made
    while made in taken:
        made += "_2"
    taken.add(made)
    return made


def file_name(identifier: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", identifier)
    return re.sub(r"[^a-z0-9]+", "-", spaced.lower()).strip("-")[:60] or "call"


def save(into: Path, operations: list[dict[str, Any]]) -> list[dict[str, str]]:
    into.mkdir(parents=True, exist_ok=True)
    for name in ("api.py", "pick.py"):
        shutil.copy(ASSETS / name, into / name)
    made: dict[str, dict[str, Any]] = {}
    for operation in operations:
        name = file_name(operation["id"])
        while name in made or name in ("api", "pick"):
            name += "-2"
        made[name] = operation
    for name, operation in made.items():
        text = PROGRAM.format(
            summary=operation["summary"], operation=pprint.pformat(operation, width=110, sort_dicts=False)
        )
        (into / f"{name}.py").write_text(text, "utf-8")
    rows = [f"- `{name}.py`: {one['summary']} ({one['method']} {one['path']})" for name, one in made.items()]
    head = "# Tools\n\nSet API_URL and API_TOKEN; each has --help and --dry-run, and prints JSON.\n\n"
    (into / "README.md").write_text(head + "\n".join(rows) + "\n- `pick.py`: takes fields out of JSON\n", "utf-8")
    return [{"file": f"{name}.py", "does": f"{one['method']} {one['path']}"} for name, one in made.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("description", type=Path, help="openapi.json or .yaml")
    parser.add_argument("--into", type=Path, required=True, help="folder for the tools")
    parser.add_argument("--only", action="append", metavar="OPERATION", help="operationId; may be given again")
    args = parser.parse_args()
    try:
        operations = Description(read(args.description)).operations()
        if unknown := set(args.only or []) - {one["id"] for one in operations}:
            raise Refused(
                f"No operation {', '.join(sorted(unknown))}. There are: {', '.join(one['id'] for one in operations)}."
            )
    except (Refused, KeyError) as error:
        print(f"It lacks {error}." if isinstance(error, KeyError) else error, file=sys.stderr)
        return 2
    chosen = [one for one in operations if not args.only or one["id"] in args.only]
    if not chosen:
        print("The description has no operations.", file=sys.stderr)
        return 2
    print(json.dumps({"into": str(args.into), "tools": save(args.into, chosen)}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
