"""The page: how soon viewers see what was stored, what thirty people at once cost, bytes per token, how soon it is up.

`python -m benchmarks.page [GROUP …]`. Servers and the scripted model are processes of their own, viewers are protocol
clients. Parts that are processes run as `python -m benchmarks.page PART PORT`.
"""

import asyncio
import json
import os
import resource
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import websockets

from benchmarks.table import Row, show

ROOT = Path(__file__).parents[1]
PEOPLE, SECONDS = 30, 15.0  # who watches, and for how long it is measured
TOKENS, RATE = 400, 50.0  # of one answer, tokens a second as a local model writes them
PASSWORD = "a long password"


# -- processes -------------------------------------------------------------------------------------------------------


def model(port: int) -> None:
    """A chat server that writes slowly: each request says how in its task, `stream NAME COUNT SIZE RATE`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            body = json.dumps({"data": [{"id": "scripted", "max_model_len": 65_536}]}).encode()
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"]
            told = next(word for word in str(asked[-1]["content"]).split("stream ")[1:])
            name, count, size, rate = told.split()[:4]
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            begun = time.monotonic()
            for number in range(int(count)):
                time.sleep(max(0.0, begun + number / float(rate) - time.monotonic()))
                text = f"{name}-{number:05d} ".ljust(int(size), "x")
                self.say({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})
            self.say({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            self.wfile.write(b"data: [DONE]\n\n")

        def say(self, event: dict[str, Any]) -> None:
            try:
                self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            except OSError:  # the turn was stopped
                pass

    class Server(ThreadingHTTPServer):
        request_queue_size, daemon_threads = 128, True

    Server(("127.0.0.1", port), Handler).serve_forever()


def stock(port: int) -> None:
    """smolagents' own page over the same text, token by token."""
    from smolagents import ChatMessage, ChatMessageStreamDelta, CodeAgent, GradioUI, Model

    class Scripted(Model):
        def generate_stream(self, messages: Any, **options: Any) -> Iterator[Any]:
            begun = time.monotonic()
            for number in range(TOKENS):
                time.sleep(max(0.0, begun + number / RATE - time.monotonic()))
                yield ChatMessageStreamDelta(content=f"{number:04d} ")
            yield ChatMessageStreamDelta(content='\n<code>\nfinal_answer("done")\n</code>')

        def generate(self, messages: Any, **options: Any) -> Any:
            return ChatMessage(role="assistant", content="done")

    agent = CodeAgent(tools=[], model=Scripted(), stream_outputs=True, verbosity_level=0)
    GradioUI(agent).create_app().launch(server_port=port, prevent_thread_lock=False, quiet=True, share=False)


PARTS = {"model": model, "stock": stock}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: str, **env: str) -> Iterator[subprocess.Popen]:
    made = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
    try:
        yield made
    finally:
        made.send_signal(signal.SIGTERM)
        try:
            made.wait(30)
        except subprocess.TimeoutExpired:
            made.kill()
            made.wait()


@contextmanager
def part(name: str) -> Iterator[str]:
    port = free_port()
    with process(sys.executable, "-m", "benchmarks.page", name, str(port)):
        until_answers(f"http://127.0.0.1:{port}/" + ("v1/models" if name == "model" else ""))
        yield f"http://127.0.0.1:{port}"


def until_answers(url: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            httpx.get(url, trust_env=False)
            return
        except httpx.HTTPError:
            time.sleep(0.02)
    raise TimeoutError(f"{url} does not answer")


class Page:
    """`python -m agent ui` in a home of its own, as a person or a team starts it."""

    def __init__(self, home: Path, made: subprocess.Popen, url: str):
        self.home, self.process, self.url = home, made, url

    def cpu(self) -> float:
        """Seconds of processor that the server took so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def libraries(self) -> str:
        return Path(f"/proc/{self.process.pid}/maps").read_text()


@contextmanager
def page(*flags: str, **env: str) -> Iterator[Page]:
    with tempfile.TemporaryDirectory(prefix="smith-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        port = free_port()
        told = {"MODELSMITH_HOME": folder, "MODELSMITH_SANDBOX": "embedded", **env}
        with process(sys.executable, "-m", "agent", "ui", "--port", str(port), *flags, **told) as made:
            url = f"http://127.0.0.1:{port}"
            until_answers(f"{url}/x/static/icon.svg")
            try:
                yield Page(Path(folder), made, url)
            finally:
                end_sandboxes(Path(folder))


def end_sandboxes(home: Path) -> None:
    try:
        pid = json.loads((home / "sandbox" / "server.json").read_text())["pid"]
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        return
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)


# -- viewers ---------------------------------------------------------------------------------------------------------


class Viewer:
    """One person in front of a session: logs in, begins a turn, and notes when each event came."""

    def __init__(self, url: str, name: str):
        self.url, self.name = url, name
        self.client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=120)
        self.delays: list[tuple[float, float]] = []  # when it was stored, seconds until it was here
        self.text = ""

    async def begin(self, signs_in: bool, task: str) -> None:
        if signs_in:
            await self.client.post("/login", data={"name": self.name, "password": PASSWORD})
        self.id = (await self.client.post("/x/sessions", json={})).json()["id"]
        cookie = "; ".join(f"{name}={value}" for name, value in self.client.cookies.items())
        address = f"{self.url.replace('http', 'ws')}/x/sessions/{self.id}/events?after=0"
        self.socket = await websockets.connect(address, proxy=None, additional_headers={"cookie": cookie})
        (await self.client.post(f"/x/sessions/{self.id}/tasks", json={"text": task})).raise_for_status()

    async def again(self, task: str) -> None:
        """Another turn of the same session."""
        (await self.client.post(f"/x/sessions/{self.id}/tasks", json={"text": task})).raise_for_status()

    async def watch(self) -> None:
        """To the end of a turn."""
        async for frame in self.socket:
            now = time.time()
            for event in json.loads(frame).get("events", []):
                if event["type"] in ("thought", "answer"):
                    self.delays.append((event["at"], now - event["at"]))
                    self.text += event["data"].get("text", "") if event["type"] == "thought" else ""
                if event["type"] == "state" and event["data"]["state"] in ("succeeded", "failed", "cancelled", "lost"):
                    return


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def crowd() -> list[Row]:
    """Thirty people, each with a turn of their own that writes 40 characters ten times a second."""
    from agent.ui.passwords import line

    names = [f"person{number}" for number in range(PEOPLE)]
    with ExitStack() as stack:
        url = stack.enter_context(part("model"))
        people = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".auth"))
        people.write("\n".join(line(name, PASSWORD) for name in names))
        people.flush()
        limits = {"MODELSMITH_SANDBOX_MAX": str(PEOPLE + 5), "MODELSMITH_SANDBOX_POOL": "0"}
        server = stack.enter_context(page("--auth", people.name, MODELSMITH_MODEL=f"{url}/v1", **limits))
        return asyncio.run(watched(server, names))


async def watched(server: Page, names: list[str]) -> list[Row]:
    """Sandboxes are opened first, one after the other; then all turns stream at once and are measured."""
    viewers = [Viewer(server.url, name) for name in names]
    for viewer in viewers:
        await viewer.begin(True, f"stream warm-{viewer.name} 1 40 10")
        await viewer.watch()
    begun = [viewer.again(f"stream {viewer.name} {int((SECONDS + 4) * 10)} 40 10") for viewer in viewers]
    await asyncio.gather(*begun)
    watching = [asyncio.create_task(viewer.watch()) for viewer in viewers]
    await asyncio.sleep(3)  # all are under way
    start, cpu = time.time(), server.cpu()
    await asyncio.sleep(SECONDS)
    used, stop = server.cpu() - cpu, time.time()
    await asyncio.gather(*watching)
    delays = [delay for viewer in viewers for at, delay in viewer.delays if start <= at <= stop]
    mixed = sum(f"{other}-" in viewer.text for viewer in viewers for other in names if other != viewer.name)
    share = 100 * used / (stop - start)
    note = f"p50 {1000 * statistics.median(delays):.0f} ms, {len(delays)} events"
    return [
        Row(f"{PEOPLE} people streaming at once, p95", 1000 * p95(delays), "ms", 150, note=note),
        Row("runs that got into one another", mixed, "", 0),
        Row("server CPU while they do, of one core", share, "%", 100, note="told, with the sessions' own work"),
    ]


class Relay:
    """Passes connections on to a server and counts what it sends, as it goes over the wire."""

    def __init__(self, url: str):
        self.target, self.sent = int(url.rpartition(":")[2]), 0

    async def __aenter__(self) -> "Relay":
        self.server = await asyncio.start_server(self.join, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.server.close()

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, on = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            await asyncio.gather(self.pipe(reader, on), self.pipe(back, writer, counted=True), return_exceptions=True)
        except asyncio.CancelledError:  # the end of the measurement
            pass

    async def pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: bool = False) -> None:
        try:
            while data := await source.read(65_536):
                self.sent += len(data) if counted else 0
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()


def tokens() -> list[Row]:
    """The bytes a viewer gets for each streamed token, ours and those of smolagents' page, at the same pace."""
    with part("model") as url, page(MODELSMITH_MODEL=f"{url}/v1") as server:
        ours = asyncio.run(our_bytes(server.url)) / TOKENS
    with part("stock") as url:
        theirs = asyncio.run(stock_bytes(url)) / TOKENS
    note = f"{ours:.0f} and {theirs:,.0f} bytes"
    return [Row("bytes sent per streamed token", ours / theirs, "x", 0.1, "stock GradioUI", note)]


async def our_bytes(url: str) -> int:
    """Of a whole turn over the session's WebSocket, as a browser has it: compressed where both can."""
    async with Relay(url) as relay:
        viewer = Viewer(relay.url, "token")
        await viewer.begin(False, f"stream t {TOKENS} 5 {RATE:g}")
        await viewer.watch()
        return relay.sent


async def stock_bytes(url: str) -> int:
    """As its page asks: keep what was typed, then run; each joins the queue and reads its stream to the end."""
    async with Relay(url) as relay, httpx.AsyncClient(base_url=relay.url, trust_env=False, timeout=120) as client:
        names = [one.get("api_name") for one in (await client.get("/config")).json()["dependencies"]]
        session, before = secrets.token_hex(5), 0
        for name, data in (("_clear_and_save_textbox", ["Do it.", None]), ("_submit_fn", [None, []])):
            before = relay.sent
            asked: dict[str, object] = {"data": data, "fn_index": names.index(name), "session_hash": session}
            (await client.post("/gradio_api/queue/join", json=asked)).raise_for_status()
            await stream_end(client, session)
        return relay.sent - before


async def stream_end(client: httpx.AsyncClient, session: str) -> None:
    async with client.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as stream:
        async for text in stream.aiter_lines():
            if "process_completed" in text:
                if '"success":true' not in text:
                    raise RuntimeError(f"the stock page failed: {text[:300]}")
                return
    raise RuntimeError("the stock page's stream ended early")


def start() -> list[Row]:
    """From the command to the page's first byte, and what was loaded for it."""
    begun = time.perf_counter()
    with page("--model", "recipes") as server:
        httpx.get(server.url, trust_env=False).raise_for_status()
        seconds = time.perf_counter() - begun
        cpu = server.cpu()
        torch = "libtorch" in server.libraries()
        memory = Path(f"/proc/{server.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]
    note = f"{cpu:.1f} s of processor, {int(memory) / 1024:.0f} MB resident"
    return [
        Row("cold start of `ui` to the page's answer", seconds, "s", 10, note=f"told; {note}"),
        Row("torch in the server", float(torch), "", 0),
    ]


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] in PARTS:
        PARTS[sys.argv[1]](int(sys.argv[2]))
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = sys.argv[1:] or list(GROUPS)
    return show("page", [row for name in wanted for row in GROUPS[name]()])


GROUPS = {"start": start, "tokens": tokens, "crowd": crowd}

if __name__ == "__main__":
    sys.exit(main())
