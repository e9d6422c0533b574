"""Speaking to the server's port byte by byte, where the SDK is too polite."""

import base64
import json
import os
import re
import socket
from pathlib import Path

from e2b_code_interpreter import Sandbox

from tests.sandbox.serving import Served

PATIENCE = 0.25  # seconds for answers of which there should be none
START = "/process.Process/Start"


def talk(served: Served, data: bytes, seconds: float = 5) -> bytes:
    """Send raw bytes, return all that comes back."""
    with socket.create_connection(("127.0.0.1", int(served.url.rsplit(":", 1)[1])), seconds) as peer:
        answer = b""
        try:
            peer.sendall(data)
            while piece := peer.recv(65536):
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
    return answer


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    named = {"Host": "localhost", "Connection": "close", **{k.replace("_", "-"): v for k, v in headers.items()}}
    if body:
        named.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def tokens(box: Sandbox) -> dict[str, str]:
    return {
        "E2b_Sandbox_Id": box.sandbox_id,
        "X_Access_Token": box._envd_access_token,
        "E2B_Traffic_Access_Token": box.traffic_access_token,
    }


def read_file(**headers: str) -> bytes:
    return request("GET", "/files?path=secret.txt", **headers)


def start(command: str, **headers: str) -> bytes:
    """A command by envd's streaming call."""
    told = json.dumps({"process": {"cmd": "/bin/sh", "args": ["-c", command]}, "stdin": False}).encode()
    frame = b"\0" + len(told).to_bytes(4, "big") + told
    kind = {"Content_Type": "application/connect+json", "Connect_Protocol_Version": "1"}
    return request("POST", START, frame, **kind, **headers)


def talk_and_read(served: Served, data: bytes) -> bytes:
    """As `talk`, and what a command printed is added in clear."""
    answer = talk(served, data)
    return answer + b"".join(base64.b64decode(found) for found in re.findall(rb'"stdout": ?"([^"]+)"', answer))


def memory(served: Served) -> int:
    pid = server_pid(served)
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def server_pid(served: Served) -> int:
    return json.loads((served.home / "sandbox" / "server.json").read_text())["pid"]
