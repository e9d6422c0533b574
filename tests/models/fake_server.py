"""A chat server on loopback that answers in the shapes of the real ones, and fails in the ways they do.

What it says is scripted; the protocol, the sockets and the client that talks to it are real. Faults are names, one for
each request in turn; when they are used up it answers well. Model quality and real inference are not covered.
"""

import json
import select
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The words of the real servers, as people report them.
# ruff: noqa: E501
OVERFLOWS = {
    "vllm": (400, "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens (8000 in the "
                  "messages, 1000 in the completion). Please reduce the length of the messages or completion."),
    "vllm-input": (400, "You passed 9001 input tokens and requested 1 output tokens. However, the model's context length "
                        "is only 4096 tokens. Please reduce the length of the input prompt."),
    "vllm-decoder": (400, "The decoder prompt (length 9001) is longer than the maximum model length of 4096."),
    "llamacpp": (400, {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096,
                       "message": "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it"}),
    "llamacpp-old": (500, {"code": 500, "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096,
                           "message": "the request exceeds the available context size. try increasing the context size"}),
    "ollama": (400, "prompt too long; exceeded max context length by 4904 tokens"),
    "ollama-embed": (400, "the input length exceeds the context length"),
    "lmstudio": (400, "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with "
                      "context length of only 4096 tokens, which is not enough. Try a larger context length."),
    "lmstudio-keep": (400, "The number of tokens to keep from the initial prompt is greater than the context length."),
    "sglang": (400, "The input (9000 tokens) is longer than the model's context length (4096 tokens)."),
    "sglang-total": (400, "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested "
                          "a total of 9500 tokens: 9000 tokens from the input messages and 500 tokens for the completion."),
    "router": (400, {"message": "Please reduce the length of the messages.", "code": "context_length_exceeded"}),
    "router-tgi": (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 9000 `inputs` "
                        "tokens and 500 `max_new_tokens`"),
    "proxy": (413, "Request Entity Too Large"),
}  # fmt: skip


class FakeServer:
    """`thinks` is thought first: in a field, in tags, or (lead) with the opening tag lost, as `thoughts` says."""

    def __init__(
        self,
        kind: str = "vllm",
        answer: str = "I print.\n<code>\nprint(1)\n</code>",
        *,
        thinks: str = "",
        thoughts: str = "field",
        faults: tuple[str, ...] = (),
        piece: int = 4,
        window: int = 32768,
        models: tuple[str, ...] = ("Qwen/Qwen3-8B",),
        loaded: bool = True,
        key: str | None = None,
        switch: bool = True,
        stops_see_thoughts: bool = True,
        usage: bool = True,
        port: int = 0,
    ) -> None:
        self.__dict__.update({name: value for name, value in locals().items() if name not in ("self", "port")})
        self.faults = list(faults)
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.dropped = threading.Event()  # the client hung up while we were holding it
        self.held = threading.Event()  # a request is being held now
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.get(self)

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                outer.post(self, json.loads(self.rfile.read(size) or b"{}"))

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._http = Server(("127.0.0.1", port), Handler)
        self.port = self._http.server_address[1]
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"

    def __enter__(self) -> "FakeServer":
        threading.Thread(target=self._http.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release.set()
        self._http.shutdown()
        self._http.server_close()

    # what it tells about itself

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        if self.faults and self.faults[0] == "loading":
            return self._json(
                handler, 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
            )
        if self.faults and self.faults[0] == "mute":
            return self._hold(handler)
        if self.key and handler.headers.get("authorization") != f"Bearer {self.key}":
            return self._json(handler, 401, {"error": {"message": f"bad key {handler.headers.get('authorization')}"}})
        found = self._pages().get(handler.path)
        if found is not None:
            return self._json(handler, 200, found)
        if self.kind == "lmstudio":
            return self._json(handler, 200, {"error": f"Unexpected endpoint or method. (GET {handler.path})"})
        return self._json(handler, 404, {"detail": "Not Found"})

    def _pages(self) -> dict:
        listed = [{"id": name, "object": "model"} for name in self.models]
        pages: dict = {"/v1/models": {"object": "list", "data": listed}}
        if self.kind in ("vllm", "sglang"):
            for model in listed:
                model["max_model_len"] = self.window
            pages["/version"] = {"version": "0.26.0"}
        if self.kind == "sglang":
            pages["/get_server_info"] = {
                "context_length": self.window,
                "version": "0.5.9",
                "model_path": self.models[0],
            }
        if self.kind == "llamacpp":
            for model in listed:
                model["meta"] = {"n_ctx_train": 262144}
            pages["/props"] = {"default_generation_settings": {"n_ctx": self.window}, "build_info": "b9000-abc"}
        if self.kind == "ollama":
            names = [{"name": name, "model": name} for name in self.models]
            pages["/api/version"] = {"version": "0.20.1"}
            pages["/api/tags"] = {"models": names}
            running = [{**name, "context_length": self.window} for name in names] if self.loaded else []
            pages["/api/ps"] = {"models": running}
        if self.kind == "lmstudio":
            instance = [{"id": "x", "config": {"context_length": self.window}}] if self.loaded else []
            pages["/api/v1/models"] = {
                "models": [
                    {"type": "llm", "key": name, "loaded_instances": instance, "max_context_length": 262144}
                    for name in self.models
                ]
            }
        return pages

    # what it answers

    def post(self, handler: BaseHTTPRequestHandler, body: dict) -> None:
        if handler.path == "/api/show":
            return self._json(handler, 200, {"parameters": "", "model_info": {"qwen3.context_length": 262144}})
        self.requests.append(body)
        self.headers.append(dict(handler.headers))
        fault = self.faults.pop(0) if self.faults else ""
        if self.key and handler.headers.get("authorization") != f"Bearer {self.key}":
            fault = "401"
        if body.get("max_tokens") == 1 and not fault:
            fault = "length"
        refusal = self._refusal(handler, fault, body)
        if refusal:
            return self._json(handler, *refusal)
        if fault == "slow":
            return self._hold(handler)
        if fault == "close":
            handler.close_connection = True
            return None
        if fault in ("html", "text"):
            return self._raw(handler, b"<html>nginx</html>" if fault == "html" else b"hello there\n", "text/html")
        deltas, finish = self._deltas(body, fault)
        if fault == "no-stream":
            message = {"role": "assistant", "content": "".join(d.get("content") or "" for d in deltas)}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            return self._json(
                handler, 200, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
            )
        self._stream(handler, body, fault, deltas, finish)

    def _refusal(self, handler: BaseHTTPRequestHandler, fault: str, body: dict) -> tuple | None:
        name, _, detail = fault.partition(":")
        if name == "overflow":
            status, told = OVERFLOWS[detail]
            return status, {"error": told if isinstance(told, dict) else {"message": told, "code": status}}
        if name == "refuse" and detail in body:
            return 400, {"error": {"message": f"Unsupported parameter: '{detail}' is not supported."}}
        if name == "big-max-tokens":
            told = (f"'max_tokens' or 'max_completion_tokens' is too large: {body['max_tokens']}. This model's maximum context "
                    "length is 4096 tokens and your request has 1000 input tokens")  # fmt: skip
            return 400, {"error": {"message": told}}
        if name == "401":
            key = str(handler.headers.get("authorization")).removeprefix("Bearer ")
            return 401, {"error": {"message": f"Incorrect API key provided: {key}"}}
        if name == "404":
            return 404, {"error": {"message": f"The model `{body.get('model')}` does not exist."}}
        if name == "loading":
            return 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
        if name.isdigit():
            return int(name), {"error": {"message": f"{name} here"}}, {"Retry-After": detail} if detail else {}
        return None

    def _deltas(self, body: dict, fault: str) -> tuple[list[dict], str]:
        think, answer, finish = self.thinks, self.answer, "stop"
        off = (body.get("chat_template_kwargs") or {}).get("enable_thinking") is False
        if self.switch and (off or body.get("reasoning_effort") == "none"):
            think = ""
        for stop in body.get("stop") or []:
            if think and self.stops_see_thoughts and stop in think:
                think, answer = think[: think.index(stop)], ""
            if stop in answer:
                answer = answer[: answer.index(stop)]
        if fault == "empty":
            answer = ""
        if fault == "length":
            answer, finish = answer[: len(answer) // 2], "length"
        if self.thoughts == "tags" and think:
            think, answer = "", f"<think>\n{think}\n</think>\n\n{answer}"
        if self.thoughts == "lead" and think:
            think, answer = "", f"{think}\n</think>\n\n{answer}"
        name = "reasoning" if self.kind in ("vllm", "ollama") else "reasoning_content"
        return [{name: piece} for piece in self._pieces(think)] + [{"content": p} for p in self._pieces(answer)], finish

    def _pieces(self, text: str) -> list[str]:
        return [text[at : at + self.piece] for at in range(0, len(text), self.piece)]

    def _stream(self, handler: BaseHTTPRequestHandler, body: dict, fault: str, deltas: list[dict], finish: str) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        handler.close_connection = True
        end = b"\r\n" if self.kind == "sglang" else b"\n"
        out = [b": comment" + end]
        for delta in [{"role": "assistant", "content": ""}, *deltas]:
            out.append(self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}, end))
        try:
            if fault in ("headers-only", "stall", "cut"):
                held = out[: {"headers-only": 0, "stall": 5, "cut": len(out) - 3}[fault]]
                handler.wfile.write(b"".join(held))
                handler.wfile.flush()
                return None if fault == "cut" else self._hold(handler)
            if fault == "garbage":
                out[5:] = [b"data: {not json" + end * 2]
            elif fault == "error":
                out[5:] = [self._event({"error": {"message": "CUDA out of memory", "code": 500}}, end)]
            elif fault == "error-overflow":
                told = OVERFLOWS["lmstudio"][1]
                out[1:] = [b"event: error" + end, self._event({"error": {"message": told}}, end)]
            else:
                out.append(self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}, end))
                if self.usage and (body.get("stream_options") or {}).get("include_usage"):
                    usage = {"prompt_tokens": 11, "completion_tokens": len(deltas), "total_tokens": 11 + len(deltas)}
                    out.append(self._event({"choices": [], "usage": usage}, end))
                if fault != "no-done":
                    out.append(b"data: [DONE]" + end * 2)
            data = b"".join(out)
            if fault == "bytes":
                for at in range(len(data)):
                    handler.wfile.write(data[at : at + 1])
            else:
                handler.wfile.write(data)
        except OSError:
            self.dropped.set()

    @staticmethod
    def _event(payload: dict, end: bytes) -> bytes:
        return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + end * 2

    def _hold(self, handler: BaseHTTPRequestHandler) -> None:
        """Says nothing until the client hangs up or the test lets go."""
        handler.close_connection = True
        self.held.set()
        while not self.release.is_set():
            if select.select([handler.connection], [], [], 0.02)[0] and not handler.connection.recv(1):
                self.dropped.set()
                return

    def _json(self, handler: BaseHTTPRequestHandler, status: int, payload: dict, headers: dict | None = None) -> None:
        self._raw(handler, json.dumps(payload).encode(), "application/json", status, headers)

    def _raw(
        self,
        handler: BaseHTTPRequestHandler,
        data: bytes,
        content_type: str,
        status: int = 200,
        headers: dict | None = None,
    ) -> None:
        handler.send_response(status)
        for name, value in {"content-type": content_type, "content-length": str(len(data)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


def until(condition, seconds: float = 5) -> bool:
    """Waits for a condition, not for a time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.01)
    return True
