"""A Hub on loopback: a few repositories, papers and pages, served in the shapes of the real one to its real client.

`faults` make matching requests go wrong, one fault per request; `seen` keeps every request with its headers. More
routes can be added with `on`. It knows nothing of commits, large-file stores or Xet, and proves
only what our side does.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.tools.hub_samples import GOOD, USER, WHEN, Repo, collection, example_repos, paper


class FakeHub:
    def __init__(self) -> None:
        self.repos = example_repos()
        self.papers = {"2305.18290": paper("2305.18290", "Direct preference optimisation", ["acme/tiny-qwen"])}
        self.paper_texts = {"2305.18290": "# Direct preference optimisation\n\n" + "A sentence of it. " * 2000}
        self.pages = {
            "/docs/trl/sft_trainer": "# SFT Trainer\n\npacking puts examples together. " + "More words. " * 4000,
            "/learn/course/one": "# Lesson one",
        }
        self.html: set[str] = set()  # pages given as HTML unless .md is asked for
        self.redirects: dict[str, str] = {}
        self.collections = [
            collection("acme/small-models-1", "Small models", [("model", "acme/tiny-qwen"), ("dataset", "acme/jokes")]),
            collection("acme/speech-2", "Speech", []),
        ]
        self.hardware = [
            flavor("cpu-basic", "2 vCPU", "16 GB", 0.0002),
            flavor("l4x1", "8 vCPU", "30 GB", 0.02, ("L4", "1", "24 GB")),
            flavor("l4x4", "48 vCPU", "186 GB", 0.07, ("L4", "4", "96 GB")),
        ]
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.faults: dict[str, list[str]] = {}  # part of a path -> what happens to its next requests
        self.page_size = 1000
        self.stopping = threading.Event()
        self.routes: list[tuple[str, re.Pattern[str], Callable[..., None]]] = []

        handler = type("Handler", (Exchange,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.cdn = f"http://localhost:{self.server.server_port}"  # another host to any client
        self._standard_routes()
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()

    def on(self, method: str, path: str, answer: Callable[..., None]) -> None:
        """`answer(exchange, *groups)` is called for requests whose path fits; the last one added wins."""
        self.routes.insert(0, (method, re.compile(path), answer))

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.seen]

    def find(self, kind: str, repo_id: str) -> Repo | None:
        return next((repo for repo in self.repos if (repo.kind, repo.id) == (kind, repo_id)), None)

    def _standard_routes(self) -> None:
        kinds, name = "(models|datasets|spaces)", r"([\w.-]+/[\w.-]+)"
        self.on("GET", r"/cdn/(\w+)", cdn)
        self.on("(?:GET|HEAD)", rf"/(datasets/|spaces/)?{name}/resolve/([^/]+)/(.+)", resolve)
        self.on("GET", rf"/api/{kinds}", search)
        self.on("GET", rf"/api/{kinds}/{name}", info)
        self.on("GET", rf"/api/{kinds}/{name}/revision/([^/]+)", info)
        self.on("GET", rf"/api/{kinds}/{name}/tree/([^/]+)(?:/(.+))?", tree)
        self.on("POST", rf"/api/{kinds}/{name}/paths-info/([^/]+)", paths_info)
        self.on("GET", "/api/spaces/semantic-search", search_spaces)
        self.on("GET", "/api/whoami-v2", whoami)
        self.on("GET", "/api/collections", lambda ask: ask.json(self.collections))
        self.on("GET", rf"/api/collections/{name}", one_collection)
        self.on("GET", r"/api/papers/([\w./-]+)", one_paper)
        self.on("GET", "/api/papers/search", search_papers)
        self.on("GET", r"/papers/([\w./-]+)\.md", paper_text)
        self.on("GET", "/api/jobs/hardware", lambda ask: ask.json(self.hardware))
        self.on("GET", "/api/docs", lambda ask: ask.json([{"id": "trl", "url": "/docs/trl", "category": "training"}]))
        self.on("GET", "/api/docs/search", search_docs)
        self.on("GET", r"(/(?:docs|learn)/.+)", page)


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer, with words for the answers a Hub gives."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(30)

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.where, self.query = unquote(parts.path), parse_qs(parts.query)
        length = int(self.headers.get("content-length") or 0)
        self.body = self.rfile.read(length)
        self.hub.seen.append((self.command, self.path, dict(self.headers)))
        if self._faulty():
            return
        if self.token and self.token != GOOD and not self.where.startswith("/cdn/"):
            return self.error(401, "Invalid credentials in Authorization header")
        for method, pattern, answer in self.hub.routes:
            if re.fullmatch(method, self.command) and (match := pattern.fullmatch(self.where)):
                return answer(self, *match.groups())
        self.error(404, "Not found")

    do_POST = do_HEAD = do_GET

    @property
    def token(self) -> str | None:
        return (self.headers.get("authorization") or "").removeprefix("Bearer ") or None

    def may_see(self, repo: Repo | None) -> bool:
        return repo is not None and (not repo.private or self.token == GOOD)

    def send(self, data: bytes, status: int = 200, kind: str = "text/plain", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(value).encode(), status, "application/json", **headers)

    def error(self, status: int, message: str, code: str = "", **headers: str) -> None:
        more = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.json({"error": message}, status, **more, **headers)

    def no_repo(self) -> None:
        self.error(404 if self.token else 401, "Repository not found", "RepoNotFound")

    def _faulty(self) -> bool:
        for part, left in self.hub.faults.items():
            if part in self.path and left:
                return self._fail(left.pop(0))
        return False

    def _fail(self, fault: str) -> bool:
        match fault.split():
            case ["ok"]:
                return False
            case ["429", wait]:
                self.error(429, "Too many requests", **{"Retry-After": wait})
            case ["forbidden"]:
                self.error(403, f"Your token {self.token} lacks read")
            case ["slow"]:
                self.hub.stopping.wait(20)
                self.close_connection = True
            case ["broken"]:
                self.send_response(200)
                self.send_header("content-length", "1000")
                self.end_headers()
                self.wfile.write(b'{"half')
                self.close_connection = True
            case ["html"]:
                self.send(b"<!doctype html><p>Sign in to the network", kind="text/html")
            case [status]:
                self.error(int(status), "out of order")
        return True


def flavor(
    name: str, cpu: str, ram: str, usd: float, card: tuple[str, str, str] | None = None, label: str = "minute"
) -> dict[str, Any]:
    """Hardware of Jobs as the list tells it: `card` is model, quantity and the memory of all of them."""
    named = ("model", "quantity", "vram")
    accelerator = dict(zip(named, card, strict=True)) | {"type": "gpu", "manufacturer": "Nvidia"} if card else None
    told = {"name": name, "prettyName": name, "cpu": cpu, "ram": ram, "ephemeralStorage": "50 GB"}
    cost = {"unitCostMicroUSD": round(usd * 1e6), "unitCostUSD": usd, "unitLabel": label}
    return told | {"accelerator": accelerator} | cost


def whoami(ask: Exchange) -> None:
    ask.json(USER) if ask.token else ask.error(401, "Invalid username or password.")


def search(ask: Exchange, kinds: str) -> None:
    words = ask.query.get("search", [""])[0].lower().split()
    author, tags = ask.query.get("author", [None])[0], ask.query.get("filter", [])
    found = [
        repo.record()
        for repo in ask.hub.repos
        if f"{repo.kind}s" == kinds
        and ask.may_see(repo)
        and all(word in repo.id.lower() for word in words)
        and author in (None, repo.id.split("/")[0])
        and all(tag in repo.record()["tags"] for tag in tags)
    ]
    ask.json(found[: int(ask.query.get("limit", ["100"])[0])])


def info(ask: Exchange, kinds: str, repo_id: str, revision: str = "main") -> None:
    repo = ask.hub.find(kinds[:-1], repo_id)
    if not ask.may_see(repo):
        return ask.no_repo()
    assert repo
    if revision not in ("main", repo.sha):
        return ask.error(404, "Invalid rev id", "RevisionNotFound")
    ask.json(repo.record("blobs" in ask.query))


def tree(ask: Exchange, kinds: str, repo_id: str, revision: str, folder: str | None = None) -> None:
    repo = ask.hub.find(kinds[:-1], repo_id)
    if not ask.may_see(repo):
        return ask.no_repo()
    assert repo
    below = f"{folder}/" if folder else ""
    inside = {path: data for path, data in repo.files.items() if path.startswith(below)}
    if not inside:
        return ask.error(404, "Entry not found", "EntryNotFound")
    recursive = ask.query.get("recursive", ["false"])[0].lower() == "true"
    found: dict[str, dict[str, Any]] = {}
    for path, data in inside.items():
        first, *rest = path[len(below) :].split("/")
        if rest:
            found[below + first] = {"type": "directory", "path": below + first, "oid": "1", "size": 0}
        if recursive or not rest:
            found[path] = entry(path, data)
    start = int(ask.query.get("cursor", ["0"])[0])
    page = list(found.values())[start : start + ask.hub.page_size]
    after = start + ask.hub.page_size
    more = f"{ask.hub.url}{urlsplit(ask.path).path}?recursive={recursive}&cursor={after}"
    ask.json(page, **({"Link": f'<{more}>; rel="next"'} if after < len(found) else {}))


def entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "oid": hashlib.sha1(data).hexdigest(), "size": len(data)}


def paths_info(ask: Exchange, kinds: str, repo_id: str, revision: str) -> None:
    repo = ask.hub.find(kinds[:-1], repo_id)
    if not ask.may_see(repo):
        return ask.no_repo()
    assert repo
    wanted = parse_qs(ask.body.decode())["paths"]
    ask.json([entry(path, repo.files[path]) for path in wanted if path in repo.files])


def resolve(ask: Exchange, prefix: str | None, repo_id: str, revision: str, path: str) -> None:
    """Big kinds of files lie behind a redirect to another host, as on the real Hub."""
    repo = ask.hub.find((prefix or "models/")[:-2], repo_id)
    if not ask.may_see(repo):
        return ask.no_repo()
    assert repo
    if repo.gated and path != "README.md":
        return ask.error(403 if ask.token else 401, "Access is restricted", "GatedRepo")
    if revision not in ("main", repo.sha):
        return ask.error(404, "Invalid rev id", "RevisionNotFound")
    if path not in repo.files:
        return ask.error(404, "Entry not found", "EntryNotFound")
    data = repo.files[path]
    tag = f'"{hashlib.sha1(data).hexdigest()}"'
    headers = {"ETag": tag, "X-Repo-Commit": repo.sha, "Accept-Ranges": "bytes"}
    if path.endswith((".safetensors", ".parquet", ".gguf")):
        key = base64.b32encode(f"{repo.kind} {repo.id} {path}".encode()).decode().rstrip("=")
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": tag, "Location": f"{ask.hub.cdn}/cdn/{key}"}
        return ask.send(b"", 302, **headers, **linked)
    part(ask, data, headers)


def cdn(ask: Exchange, key: str) -> None:
    kind, repo_id, path = base64.b32decode(key + "=" * (-len(key) % 8)).decode().split(" ")
    repo = ask.hub.find(kind, repo_id)
    assert repo
    part(ask, repo.files[path], {})


def part(ask: Exchange, data: bytes, headers: dict[str, str]) -> None:
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", ask.headers.get("range") or "")
    if not wanted:
        return ask.send(data, **headers)
    start, end = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
    if start >= len(data):
        return ask.send(b"", 416, **{"Content-Range": f"bytes */{len(data)}"})
    ask.send(data[start : end + 1], 206, **headers, **{"Content-Range": f"bytes {start}-{end}/{len(data)}"})


def search_spaces(ask: Exchange) -> None:
    found = [repo for repo in ask.hub.repos if repo.kind == "space" and ask.may_see(repo)]
    words = ask.query["q"][0].lower().split()
    told = [
        {"id": repo.id, "title": repo.extra.get("title", ""), "sdk": "gradio", "likes": 3}
        | {"ai_short_description": repo.extra.get("title"), "runtime": repo.extra.get("runtime")}
        for repo in found
        if any(word in f"{repo.id} {repo.extra.get('title', '')}".lower() for word in words)
    ]
    ask.json(told)


def one_collection(ask: Exchange, slug: str) -> None:
    found = next((one for one in ask.hub.collections if one["slug"] == slug), None)
    ask.json(found) if found else ask.error(404, "Collection not found")


def search_papers(ask: Exchange) -> None:
    words = ask.query.get("q", [""])[0].lower().split()
    found = [one for one in ask.hub.papers.values() if all(word in one["title"].lower() for word in words)]
    ask.json([{"paper": one, "title": one["title"], "publishedAt": WHEN} for one in found])


def one_paper(ask: Exchange, id: str) -> None:
    ask.json(ask.hub.papers[id]) if id in ask.hub.papers else ask.error(404, "Paper not found")


def paper_text(ask: Exchange, id: str) -> None:
    text = ask.hub.paper_texts.get(id)
    ask.send(text.encode(), kind="text/markdown") if text else ask.error(404, "Not found")


def search_docs(ask: Exchange) -> None:
    words, product = ask.query["q"][0].lower().split(), ask.query.get("product", [None])[0]
    found = [
        {
            "text": text,
            "product": path.split("/")[2],
            "heading1": text.splitlines()[0].lstrip("# "),
            "source_page_url": f"https://huggingface.co{path}",
            "source_page_title": path,
        }
        for path, text in ask.hub.pages.items()
        if any(word in text.lower() for word in words) and product in (None, path.split("/")[2])
    ]
    ask.json(found)


def page(ask: Exchange, path: str) -> None:
    if path in ask.hub.redirects:
        return ask.send(b"", 302, Location=ask.hub.redirects[path])
    if path in ask.hub.html:
        return ask.send(b"<!doctype html><html><body>nice", kind="text/html")
    text = ask.hub.pages.get(path.removesuffix(".md"))
    ask.send(text.encode(), kind="text/markdown") if text else ask.error(404, "Not found")
