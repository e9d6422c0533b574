"""Shared by the tools beside it: arguments from an operation, one request, JSON out. Standard library only.

Environment: API_URL instead of the described server, API_TOKEN for the secret. Exit codes: 1 the API refused or did not
answer, 2 wrong use.
"""

import argparse
import base64
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

TRIES, TIMEOUT = 3, 60
TYPES = {"integer": int, "number": float, "string": str}


def truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError("true or false")
    return text.lower() == "true"


def parser_for(operation: dict[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=operation["summary"].replace("%", "%%"))
    for one in operation["parameters"]:
        options: dict[str, Any] = {"help": one["help"].replace("%", "%%"), "type": TYPES.get(one["type"], truth)}
        if one["type"] == "json":
            options |= {"type": json.loads, "metavar": "JSON"}
        if one.get("choices"):
            options["choices"] = one["choices"]
        if one.get("many"):
            options["action"] = "append"
        if one["in"] == "path":
            parser.add_argument(one["dest"], **options)
        else:
            required = one["required"] and one["in"] != "body"  # a body may come whole, from a file
            parser.add_argument(f"--{one['dest'].replace('_', '-')}", dest=one["dest"], required=required, **options)
    if operation["has_body"]:
        parser.add_argument("--body", metavar="FILE", help="the whole JSON body from a file, or - for stdin")
    parser.add_argument("--dry-run", action="store_true", help="print the request, send nothing")
    return parser


def request_of(operation: dict[str, Any], args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Method, address, headers without the secret, and body."""
    path, query, headers, body = operation["path"], [], {}, None
    if operation["has_body"] and args.body:
        try:
            body = json.loads(sys.stdin.read() if args.body == "-" else Path(args.body).read_text("utf-8"))
        except (OSError, ValueError) as error:
            parser.error(f"--body {args.body}: {error}")
    for one in operation["parameters"]:
        value = getattr(args, one["dest"])
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", urllib.parse.quote(shown(value), safe=""))
        elif value is not None and one["in"] == "query":
            query += [(one["name"], shown(each)) for each in (value if isinstance(value, list) else [value])]
        elif value is not None and one["in"] == "header":
            headers[one["name"]] = shown(value)
        elif value is not None and one["in"] == "body":
            body = {**(body if isinstance(body, dict) else {}), one["name"]: value}
        elif one["in"] == "body" and one["required"] and not args.body:
            parser.error(f"--{one['dest'].replace('_', '-')} is needed, or --body")
    base = (os.environ.get("API_URL") or operation["server"]).rstrip("/")
    if not base.startswith(("http://", "https://")):
        parser.error("the description names no server: set API_URL")
    url = base + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
    return {"method": operation["method"], "url": url, "headers": headers, "body": body}


def shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | dict | list) else str(value)


def secret_headers(security: dict[str, str] | None) -> dict[str, str]:
    token = os.environ.get("API_TOKEN")
    if not token or not security:
        return {}
    if security["kind"] == "header":
        return {security["name"]: token}
    if security["kind"] == "basic":
        return {"Authorization": f"Basic {base64.b64encode(token.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"}


def send(request: dict[str, Any], security: dict[str, str] | None) -> tuple[int, str]:
    """Status and text. GET is tried again when the server is busy or broken."""
    headers = {"Accept": "application/json", **request["headers"], **secret_headers(security)}
    data = None
    if request["body"] is not None:
        data, headers["Content-Type"] = json.dumps(request["body"]).encode(), "application/json"
    for attempt in range(1, TRIES + 1):
        made = urllib.request.Request(request["url"], data, headers, method=request["method"])
        try:
            with urllib.request.urlopen(made, timeout=TIMEOUT) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            again = request["method"] == "GET" and (error.code == 429 or error.code >= 500) and attempt < TRIES
            if not again:
                return error.code, error.read().decode("utf-8", "replace")
            told = error.headers.get("Retry-After", "")
            time.sleep(min(float(told) if told.isdigit() else attempt, 30))
    raise AssertionError("not reached")


def main(operation: dict[str, Any]) -> int:
    parser = parser_for(operation)
    args = parser.parse_args()
    request = request_of(operation, args, parser)
    if args.dry_run:
        print(json.dumps(request, indent=2))
        return 0
    try:
        status, text = send(request, operation["security"])
    except OSError as error:
        print(f"{request['url']} does not answer: {error}. Check API_URL and the network.", file=sys.stderr)
        return 1
    if status >= 400:
        print(f"{request['method']} {request['url']}: {status} {text[:2000]}", file=sys.stderr)
        return 1
    try:
        print(json.dumps(json.loads(text), indent=2, ensure_ascii=False) if text.strip() else "{}")
    except ValueError:
        print(text)
    return 0
