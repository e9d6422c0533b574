"""Which model servers answer on this machine, told by what they answer and not by their port.

Only loopback is asked, about a second for each question, all ports at once. A window is reported when the server states
the one it really runs with; the length a model was trained for is never taken for it.
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from agent.models.wire import is_loopback

PORTS = (8000, 30000, 8080, 9931, 11434, 1234)
PATIENCE = 1.0
SMALL_WINDOW = 16_384  # below this an agent spends its steps on compaction
NO_CHAT = re.compile(r"embed|rerank|\bbge\b|whisper|\btts\b|clip", re.I)
RAISE_WINDOW = {
    "ollama": "restart it with OLLAMA_CONTEXT_LENGTH=64000",
    "llamacpp": "restart it with --ctx-size 65536",
    "lmstudio": "load the model with a longer context",
    "vllm": "restart it with a larger --max-model-len",
    "sglang": "restart it with a larger --context-length",
}


@dataclass(frozen=True)
class ModelInfo:
    name: str
    window: int | None = None
    loaded: bool | None = None


@dataclass(frozen=True)
class Server:
    kind: str
    base_url: str
    models: tuple[ModelInfo, ...] = ()
    loading: bool = False
    version: str | None = None
    notes: tuple[str, ...] = field(default=())

    def model(self, name: str) -> ModelInfo | None:
        """By its exact name, or without the `:latest` Ollama adds."""
        return next((model for model in self.models if name in (model.name, model.name.removesuffix(":latest"))), None)


def discover(ports: tuple[int, ...] = PORTS) -> list[Server]:
    """All servers that answer, in the order of the ports; an Ollama host variable is followed on loopback only."""
    roots = [f"http://127.0.0.1:{port}" for port in ports]
    ollama = ollama_host()
    if is_loopback(ollama) and ollama not in roots:
        roots.append(ollama)
    with ThreadPoolExecutor(len(roots), thread_name_prefix="discover") as pool:
        return [server for server in pool.map(identify, roots) if server]


def ollama_host() -> str:
    """Where OLLAMA_HOST says it is; "listen everywhere" means here."""
    given = os.environ.get("OLLAMA_HOST", "").strip().rstrip("/")
    scheme, _, rest = given.rpartition("://")
    host, _, port = rest.partition(":")
    host = "127.0.0.1" if host in ("", "0.0.0.0", "localhost") else host
    return f"{scheme or 'http'}://{host}:{port if port.isdigit() else '11434'}"


def identify(root: str, key: str | None = None) -> Server | None:
    """What answers at this root (an address without /v1); None when nothing there lists models."""
    headers = {"authorization": f"Bearer {key}"} if key and key.isascii() and key.isprintable() else {}
    root = root.rstrip("/").removesuffix("/v1")
    local = is_loopback(root)
    try:
        with httpx.Client(
            base_url=root,
            timeout=PATIENCE if local else 5,
            headers=headers,
            trust_env=not local,
            verify=not root.startswith("http:"),
        ) as client:
            return _identify(_Asker(client), root)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        return None


class _Asker:
    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.status = 0

    def get(self, path: str) -> dict:
        """The JSON object at this path, or an empty one: servers answer unknown paths in every way there is."""
        return self._object(self.client.get(path))

    def post(self, path: str, body: dict) -> dict:
        return self._object(self.client.post(path, json=body))

    def _object(self, response: httpx.Response) -> dict:
        self.status = response.status_code
        try:
            found = response.json() if response.status_code < 300 or response.status_code == 503 else {}
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def _identify(ask: _Asker, root: str) -> Server | None:
    base_url = f"{root}/v1"
    listed = ask.get("/v1/models")
    if ask.status == 503:
        kind = "llamacpp" if "oading" in str(listed.get("error")) else "openai"
        return Server(kind, base_url, loading=True, notes=("still loading its model",))
    if ask.status in (401, 403):
        return Server("openai", base_url, notes=("wants a key",))
    names = [str(item["id"]) for item in _list(listed, "data") if "id" in item]
    found = _ollama(ask, base_url) or _lmstudio(ask, base_url) or _llamacpp(ask, base_url, names)
    if found or not isinstance(listed.get("data"), list):
        return found
    windows = {str(item.get("id")): _count(item.get("max_model_len")) for item in _list(listed, "data")}
    info = ask.get("/get_server_info")
    if "error" not in info and ("model_path" in info or "max_total_num_tokens" in info):
        window = _count(info.get("context_length"))
        models = tuple(ModelInfo(name, windows[name] or window, True) for name in _chat(names))
        return _noted(Server("sglang", base_url, models, version=_text(info.get("version"))))
    models = tuple(ModelInfo(name, windows[name]) for name in _chat(names))
    if any(windows.values()):
        return _noted(Server("vllm", base_url, models, version=_text(ask.get("/version").get("version"))))
    return _noted(Server("openai", base_url, models))


def _ollama(ask: _Asker, base_url: str) -> Server | None:
    version = ask.get("/api/version").get("version")
    tags = _list(ask.get("/api/tags"), "models") if isinstance(version, str) else []
    if not isinstance(version, str) or ask.status != 200:
        return None
    running = {
        str(item.get("name")): _count(item.get("context_length")) for item in _list(ask.get("/api/ps"), "models")
    }
    names = _chat([str(item["name"]) for item in tags if "name" in item])
    models = tuple(ModelInfo(name, running.get(name), name in running) for name in names)
    return _noted(Server("ollama", base_url, models, version=version))


def ollama_window(base_url: str, name: str) -> int | None:
    """The window of a model: as it runs, else as its file sets it; None when neither is told."""
    root = base_url.removesuffix("/v1")
    server = identify(root)
    model = server.model(name) if server else None
    if model is None or model.window:
        return model.window if model else None
    try:
        with httpx.Client(base_url=root, timeout=PATIENCE, trust_env=False, verify=False) as client:
            shown = _Asker(client).post("/api/show", {"model": name})
    except httpx.HTTPError:
        return None
    found = re.search(r"num_ctx\s+(\d+)", str(shown.get("parameters", "")))
    return int(found[1]) if found else None


def _lmstudio(ask: _Asker, base_url: str) -> Server | None:
    models = _list(ask.get("/api/v1/models"), "models")
    if models and any("loaded_instances" in item for item in models):
        chat = [item for item in models if item.get("type") != "embedding"]
        return _noted(Server("lmstudio", base_url, tuple(_lmstudio_model(item) for item in chat)))
    items = _list(ask.get("/api/v0/models"), "data")
    if not any("max_context_length" in item or "state" in item for item in items):
        return None
    old = (
        ModelInfo(str(item.get("id")), _count(item.get("loaded_context_length")), item.get("state") == "loaded")
        for item in items
        if item.get("type") != "embeddings"
    )
    return _noted(Server("lmstudio", base_url, tuple(old)))


def _lmstudio_model(item: dict) -> ModelInfo:
    instances = _list(item, "loaded_instances")
    config = instances[0].get("config") if instances else None
    window = _count(config.get("context_length")) if isinstance(config, dict) else None
    return ModelInfo(str(item.get("key") or item.get("id")), window, bool(instances))


def _llamacpp(ask: _Asker, base_url: str, names: list[str]) -> Server | None:
    props = ask.get("/props")
    settings = props.get("default_generation_settings")
    if not isinstance(settings, dict):
        return None
    window = _count(settings.get("n_ctx"))
    models = tuple(ModelInfo(name, window, True) for name in names)
    return _noted(Server("llamacpp", base_url, models, version=_text(props.get("build_info"))))


def _noted(server: Server) -> Server:
    """The same server with what a person should know about its windows."""
    notes = []
    small = [model for model in server.models if model.window and model.window < SMALL_WINDOW]
    if small:
        mend = RAISE_WINDOW.get(server.kind, "start it with a larger window")
        notes.append(f"{small[0].name} has a window of only {small[0].window} tokens: {mend}")
    if server.kind == "ollama" and any(model.window is None for model in server.models):
        notes.append("windows are known once a model is loaded; the default is 4k on GPUs below 24 GiB")
    if not server.models:
        notes.append("it has no chat model")
    return Server(server.kind, server.base_url, server.models, server.loading, server.version, tuple(notes))


def _chat(names: list[str]) -> list[str]:
    return [name for name in names if not NO_CHAT.search(name)]


def _list(found: dict, name: str) -> list[dict]:
    items = found.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
