"""E2B's template API on this machine, as far as the SDK's build calls it; it records what it was sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "e2b_0123456789abcdef"


class Api(ThreadingHTTPServer):
    def __init__(self, failure: str = ""):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.failure = failure
        self.asked: list[tuple[str, str, dict]] = []


class Handler(BaseHTTPRequestHandler):
    server: Api

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: object = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        self.server.asked.append(("POST", self.path, body))
        if self.headers["x-api-key"] != KEY:
            self.answer(401, {"code": 401, "message": "no such key"})
        elif self.path == "/v3/templates":
            named = {"names": [body["name"]], "aliases": [body["name"]], "tags": []}
            self.answer(202, {"templateID": "tpl", "buildID": "bld", "public": False, **named})
        else:
            self.answer(202)

    def do_GET(self) -> None:
        self.server.asked.append(("GET", self.path, {}))
        line = {"timestamp": "2026-01-01T00:00:00Z", "level": "info", "message": "installing"}
        entries = [] if "logsOffset=1" in self.path else [line]
        told: dict = {"templateID": "tpl", "buildID": "bld", "logs": [], "logEntries": entries, "status": "ready"}
        if self.server.failure:
            told |= {"status": "error", "reason": {"message": self.server.failure, "logEntries": []}}
        self.answer(200, told)


@contextmanager
def template_api(failure: str = "") -> Iterator[Api]:
    with Api(failure) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        try:
            yield api
        finally:
            api.shutdown()
