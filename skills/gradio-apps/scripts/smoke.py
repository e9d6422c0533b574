# /// script
# requires-python = ">=3.11"
# dependencies = ["gradio==6.31.0"]
# ///
"""Start a Gradio app on a free port, list its endpoints, call one if asked, stop it. Prints JSON.

The app must call launch() itself when run, without a fixed port. Exit code 1 when it does not serve or the call fails.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ask(url: str, body: Any = None, timeout: float = 60) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with OPENER.open(request, timeout=timeout) as answer:
        return answer.read()


def wait(url: str, app: subprocess.Popen, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and app.poll() is None:
        try:
            ask(f"{url}/gradio_api/app_id", timeout=5)
            return True
        except OSError:
            time.sleep(0.2)
    return False


def call(url: str, name: str, data: list[Any], seconds: float) -> Any:
    """The outputs of an endpoint; RuntimeError if it fails."""
    event = json.loads(ask(f"{url}/gradio_api/call/{name.strip('/')}", {"data": data}))["event_id"]
    told = ask(f"{url}/gradio_api/call/{name.strip('/')}/{event}", timeout=seconds).decode()
    kind, value = "", None
    for line in told.splitlines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            value = json.loads(line.removeprefix("data: "))
    if kind != "complete":
        raise RuntimeError(f"{name} ended with {kind or 'nothing'}: {value}")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("app", type=Path)
    parser.add_argument("--call", metavar="NAME", help="an endpoint, such as /predict")
    parser.add_argument("--data", default="[]", help="its inputs as a JSON list (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="how long to wait (default: %(default)s)")
    args = parser.parse_args()
    if not args.app.is_file():
        print(f"There is no {args.app}. Name the file that launches the app.", file=sys.stderr)
        return 2
    port = free_port()
    envs = {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_ANALYTICS_ENABLED": "False"}
    with tempfile.TemporaryFile("w+") as log:
        where = args.app.resolve()
        command, env = [sys.executable, where.name], {**os.environ, **envs}
        app = subprocess.Popen(command, cwd=where.parent, env=env, stdout=log, stderr=log)
        try:
            told, failed = look(f"http://127.0.0.1:{port}", app, args)
        finally:
            app.terminate()
            try:
                app.wait(10)
            except subprocess.TimeoutExpired:
                app.kill()
                app.wait()
        if failed:
            log.seek(0)
            told["output"] = log.read()[-4000:]
    print(json.dumps(told, indent=2))
    return 1 if failed else 0


def look(url: str, app: subprocess.Popen, args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    if not wait(url, app, args.seconds):
        why = "it ended" if app.poll() is not None else f"nothing serves after {args.seconds:g} s"
        return {"serves": False, "why": f"{why}. It must launch() without a fixed port."}, True
    info = json.loads(ask(f"{url}/gradio_api/info"))
    told: dict[str, Any] = {
        "serves": True,
        "endpoints": {
            name: [one["parameter_name"] for one in found["parameters"]]
            for name, found in info["named_endpoints"].items()
        },
    }
    if not args.call:
        return told, False
    try:
        return {**told, "result": call(url, args.call, json.loads(args.data), args.seconds)}, False
    except urllib.error.HTTPError as error:
        return {**told, "error": f"{args.call}: {error.code} {error.read()[:300].decode(errors='replace')}"}, True
    except (RuntimeError, OSError, ValueError) as error:
        return {**told, "error": str(error)}, True


if __name__ == "__main__":
    sys.exit(main())
