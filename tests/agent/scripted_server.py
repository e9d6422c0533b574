"""An OpenAI-compatible chat server on loopback that says what a test wants said, or fails as it wants it to fail.

`answers` is a list, used up from the front, or a function of the request's messages. An answer is a text, a `Fault`, or
a function of the messages that gives one. Every request is kept as it came, bytes and headers. The protocol and the
sockets are real; nothing is known here about how good a model is.
"""

import json
import select
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Fault:
    """`kind`: a status ("429", "500"), overflow, hold (never a byte), stall (a few words, then silence), cut, garbage,
    empty, length."""

    kind: str
    text: str = "I will print a number.\n<code>\nprint(1)\n</code>"


Answer = str | Fault | Callable[[Messages], Any]


def code(source: str, said: str = "Doing the next step.") -> str:
    """An answer as the prompt asks for it."""
    return f"{said}\n<code>\n{source}\n</code>"


class ScriptedServer:
    def __init__(
        self, answers: Sequence[Answer] | Callable[[Messages], Any] = (), window: int = 32_768, piece: int = 9
    ):
        self.answers = answers if callable(answers) else list(answers)
        self.window, self.piece = window, piece
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.holding = threading.Event()  # a request waits for words that never come
        self.dropped = threading.Event()  # its client has hung up
        self.release = threading.Event()
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                pages: dict[str, Any] = {
                    "/v1/models": {"data": [{"id": "scripted", "max_model_len": outer.window}]},
                    "/version": {"version": "0.26.0"},
                }
                found = pages.get(self.path)
                outer.document(self, 200 if found else 404, found or {"error": "no such page"})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with outer.lock:
                    outer.paths.append(self.path)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                try:
                    outer.reply(self, json.loads(body)["messages"])
                except OSError:
                    outer.dropped.set()

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def __enter__(self) -> "ScriptedServer":
        threading.Thread(target=self.http.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release.set()
        self.http.shutdown()
        self.http.server_close()

    # -- what tests look at ------------------------------------------------------------------------------------------

    def messages(self, number: int = -1) -> Messages:
        """Of one request, as the model would have read them."""
        return json.loads(self.bodies[number])["messages"]

    def last_word(self, number: int = -1) -> str:
        """What the model was told last: the output of its code, or the task."""
        return self.messages(number)[-1]["content"]

    # -- answering ---------------------------------------------------------------------------------------------------

    def reply(self, handler: BaseHTTPRequestHandler, messages: Messages) -> None:
        answer: Any = self.answers
        if not callable(answer):
            with self.lock:
                answer = self.answers.pop(0) if self.answers else "I have nothing more to say."
        while callable(answer):
            answer = answer(messages)
        fault = answer if isinstance(answer, Fault) else Fault("", answer)
        if fault.kind.isdigit():
            return self.document(handler, int(fault.kind), {"error": {"message": f"{fault.kind} here"}})
        if fault.kind == "overflow":
            told = f"This model's maximum context length is {self.window} tokens. Reduce the length of the messages."
            return self.document(handler, 400, {"error": {"message": told}})
        if fault.kind == "hold":
            return self.hold(handler)
        self.stream(handler, fault, messages)

    def stream(self, handler: BaseHTTPRequestHandler, fault: Fault, messages: Messages) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        text = "" if fault.kind == "empty" else fault.text
        pieces = [text[at : at + self.piece] for at in range(0, len(text), self.piece)]
        events = [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
        out = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
        if fault.kind in ("stall", "cut", "garbage"):
            handler.wfile.write(b"".join(out[:3]))
            handler.wfile.flush()
            if fault.kind == "stall":
                self.hold(handler)
            if fault.kind == "garbage":
                handler.wfile.write(b"data: {not json\n\n")
            return
        finish = "length" if fault.kind == "length" else "stop"
        usage = {"prompt_tokens": sum(len(m["content"]) for m in messages) // 4, "completion_tokens": len(pieces)}
        last: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}]
        last.append({"choices": [], "usage": usage})
        out += [b"data: " + json.dumps(event).encode() + b"\n\n" for event in last]
        handler.wfile.write(b"".join(out) + b"data: [DONE]\n\n")

    def hold(self, handler: BaseHTTPRequestHandler) -> None:
        """Say nothing until the client hangs up or the test is over."""
        self.holding.set()
        while not self.release.is_set():
            if select.select([handler.connection], [], [], 0.02)[0] and not handler.connection.recv(1):
                self.dropped.set()
                return

    def document(self, handler: BaseHTTPRequestHandler, status: int, payload: Any) -> None:
        data = json.dumps(payload).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
