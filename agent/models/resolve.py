"""From what the person asked for (`auto`, a URL, `ollama/NAME`, …) to one model, with a line that says why this one.

A model that was named is never replaced by another: when it cannot be had, a UserError says why and what to do. `auto`
takes a server on this machine first, then HF Inference Providers (only with a token, never offline), then the recipes.
Nothing is sent to a model here; with `offline` nothing beyond loopback is asked.
"""

import functools
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from agent.errors import UserError
from agent.models.base import Model
from agent.models.chat import ChatModel
from agent.models.discover import PORTS, ModelInfo, Server, discover, identify, ollama_host, ollama_window
from agent.models.profile import load_profile
from agent.models.recommend import load_table
from agent.models.wire import is_loopback

ROUTER = "https://router.huggingface.co/v1"
HOMES = {"vllm": (8000,), "lmstudio": (1234,), "llamacpp": (8080, 9931), "sglang": (30000,)}
NAMES = {
    "vllm": "vLLM", "lmstudio": "LM Studio", "llamacpp": "llama.cpp", "ollama": "Ollama", "sglang": "SGLang",
    "openai": "a server",
}  # fmt: skip
START = {
    "vllm": "vllm serve {}",
    "lmstudio": "lms server start",
    "llamacpp": "llama-server -m FILE.gguf --ctx-size 32768",
    "ollama": "OLLAMA_CONTEXT_LENGTH=64000 ollama serve",
    "sglang": "python -m sglang.launch_server --model-path {}",
}
FORMS = (
    "auto, recipes, http://host:8000/v1[#NAME], ollama/NAME, lmstudio/NAME, vllm/NAME, sglang/NAME, llamacpp, "
    "hf/ORG/NAME[:provider], transformers/PATH"
)


@dataclass(frozen=True)
class Choice:
    """What was chosen. The model itself is made when `model` is first asked for."""

    label: str
    why: str
    window: int | None
    make: Callable[[], Model] = field(repr=False)
    kind: str = "openai"

    @functools.cached_property
    def model(self) -> Model:
        return self.make()


@dataclass(frozen=True)
class _Ask:
    offline: bool
    hf_token: str | None = field(repr=False)
    api_key: str | None = field(repr=False)
    profiles: Path | None
    ports: tuple[int, ...]
    router: str


def resolve(
    spec: str,
    *,
    offline: bool = False,
    hf_token: str | None = None,
    api_key: str | None = None,
    profiles: Path | None = None,
    ports: tuple[int, ...] = PORTS,
    router: str = ROUTER,
) -> Choice:
    """`profiles` is the folder the probe saved its findings in; `ports` are those `auto` looks at."""
    spec = spec.strip() or "auto"
    ask = _Ask(offline, hf_token or None, api_key or None, profiles, ports, router)
    if spec == "auto":
        return _auto(ask)
    if spec == "recipes":
        return _recipes("as asked")
    if spec.startswith(("http://", "https://")):
        return _url(spec, ask)
    kind, _, name = spec.partition("/")
    if kind == "hf" and "/" in name:
        return _hf(name, ask, "as asked")
    if kind == "transformers" and name:
        return _transformers(name, offline)
    if kind == "ollama" and name:
        return _named(kind, name, [ollama_host()], ask)
    if kind in HOMES and (name or kind == "llamacpp"):
        return _named(kind, name, [f"http://127.0.0.1:{port}" for port in HOMES[kind]], ask)
    raise UserError(f"'{spec}' names no model. Write one of: {FORMS}.")


def _auto(ask: _Ask) -> Choice:
    servers = discover(ask.ports)
    found = [(_rank(model), server, model) for server in servers for model in server.models]
    if found:
        _, server, model = max(found, key=lambda row: row[0])
        more = f", the best of {len(found)} models on this machine" if len(found) > 1 else ", found on this machine"
        return _chat(server, model, ask, f"{NAMES.get(server.kind, server.kind)} at {server.base_url}{more}")
    loading = next((server for server in servers if server.loading), None)
    if loading:
        return _chat(
            loading, ModelInfo("default"), ask, f"{loading.base_url} is {loading.notes[0]}, it will be waited for"
        )
    missing = "no model server answers on this machine"
    if ask.offline:
        return _recipes(f"{missing}, and offline forbids looking further")
    if not ask.hf_token:
        return _recipes(f"{missing}, and there is no Hugging Face token")
    listed = _router_models(ask)
    name = next((name for name in load_table()["hf"]["models"] if name in listed), None)
    if name is None:
        return _recipes(f"{missing}, and {ask.router} serves none of the models we know")
    return _hf(name, ask, f"{missing}; your text goes to HF Inference Providers", listed)


def _rank(model: ModelInfo) -> tuple:
    """A Qwen coder first, then any Qwen, then any coder; one that is loaded before one that is not; large before small.
    A coder below 4B is an autocomplete model and counts as none."""
    name = model.name.lower()
    size = re.search(r"(\d+(?:\.\d+)?)b\b", name)
    billions = float(size[1]) if size else None
    coder = "code" in name and not (billions and billions < 4)
    return (("qwen" in name) * 2 + coder, bool(model.loaded), billions or 0, model.window or 0)


def _url(spec: str, ask: _Ask) -> Choice:
    address, _, name = spec.partition("#")
    url = httpx.URL(address)
    if url.userinfo:
        raise UserError("The model's address holds a password. Leave it out and set the API key instead.")
    if not url.host:
        raise UserError(f"{address} has no host. Write http://host:8000/v1.")
    if ask.offline and not is_loopback(address):
        raise UserError(
            f"{address} is not on this machine and offline is set. Use a local server, or leave offline out."
        )
    base_url = address.rstrip("/") if url.path.strip("/") else f"{address.rstrip('/')}/v1"
    if not base_url.endswith("/v1"):
        if not name:
            raise UserError(f"{address} does not end in /v1, so its models cannot be listed. Add #NAME.")
        return _chat(Server("openai", base_url), ModelInfo(name), ask, "as asked")
    server = identify(base_url, ask.api_key)
    if server is None:
        raise UserError(f"No model server answers at {base_url}. Start it, or check the address.")
    return _pick(server, name, ask)


def _named(kind: str, name: str, roots: list[str], ask: _Ask) -> Choice:
    roots = [root for root in roots if is_loopback(root) or not ask.offline]
    servers = [server for server in map(identify, roots) if server]
    server = next((server for server in servers if server.kind == kind or server.loading), None)
    if server is None:
        other = f" ({NAMES.get(servers[0].kind)} does)" if servers else ""
        start = START[kind].format(name or "MODEL")
        places = " or ".join(root.split("://")[1] for root in roots) or "loopback"
        raise UserError(f"No {NAMES[kind]} answers on {places}{other}. Start it: {start}")
    return _pick(server, name, ask)


def _pick(server: Server, name: str, ask: _Ask) -> Choice:
    """The named model of this server, or its best one when none was named."""
    if "wants a key" in server.notes:
        told = "does not take the API key" if ask.api_key else "wants an API key"
        raise UserError(f"{server.base_url} {told}. Set the key of this server.")
    if server.loading:
        return _chat(server, ModelInfo(name or "default"), ask, "as asked; it is still loading")
    if name:
        model = server.model(name)
        if model is None and server.models:
            mend = f"Run: ollama pull {name}" if server.kind == "ollama" else f"It has: {_some(server)}"
            raise UserError(f"{server.base_url} does not serve '{name}'. {mend}.")
        return _chat(server, model or ModelInfo(name), ask, "as asked")
    if not server.models:
        raise UserError(f"{server.base_url} lists no chat model. Load one, or add #NAME.")
    model = max(server.models, key=_rank)
    return _chat(
        server, model, ask, "as asked" if len(server.models) == 1 else f"the best of its {len(server.models)} models"
    )


def _some(server: Server) -> str:
    names = [model.name for model in server.models]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _chat(server: Server, model: ModelInfo, ask: _Ask, why: str) -> Choice:
    profile = load_profile(ask.profiles, server.base_url, model.name) if ask.profiles else None
    window = model.window or (profile.window if profile else None)
    if server.kind == "ollama" and window is None:
        window = ollama_window(server.base_url, model.name)
    finder = functools.partial(_window_now, server.base_url, model.name)

    def make() -> ChatModel:
        return ChatModel(
            server.base_url,
            model.name,
            kind=server.kind,
            api_key=ask.api_key,
            window=window,
            profile=profile,
            find_window=finder if server.kind in ("ollama", "lmstudio", "llamacpp") else None,
        )

    unknown = "" if window else "; its window is not known yet"
    return Choice(f"{model.name} ({NAMES.get(server.kind, server.kind)})", why + unknown, window, make, server.kind)


def _window_now(base_url: str, name: str) -> int | None:
    """The window once the model is loaded."""
    server = identify(base_url)
    model = (server.model(name) or next(iter(server.models), None)) if server else None
    return model.window if model else None


def _hf(name: str, ask: _Ask, why: str, listed: dict[str, dict[str, int | None]] | None = None) -> Choice:
    if ask.offline:
        raise UserError(
            f"hf/{name} is not on this machine and offline is set. Use a local server, or leave offline out."
        )
    if not ask.hf_token:
        raise UserError(f"hf/{name} needs a Hugging Face token. Set HF_TOKEN, or run `hf auth login`.")
    plain, _, provider = name.partition(":")
    if listed is None:
        listed = _router_models(ask)
    if listed and plain not in listed:
        raise UserError(f"No provider serves {plain}. Choose one with an inference provider on its model page.")
    windows = listed.get(plain, {})
    known = [windows.get(provider)] if provider in windows else list(windows.values())
    window = min((count for count in known if count), default=None)

    def make() -> ChatModel:
        return ChatModel(ask.router, name, kind="hf", api_key=ask.hf_token, window=window)

    return Choice(f"{name} (HF Inference Providers)", why, window, make, "hf")


def _router_models(ask: _Ask) -> dict[str, dict[str, int | None]]:
    """Model -> provider -> window, as the router lists them; empty when it cannot be asked now."""
    local = is_loopback(ask.router)
    try:
        with httpx.Client(timeout=10, trust_env=not local, verify=not ask.router.startswith("http:")) as client:
            answer = client.get(f"{ask.router}/models", headers={"authorization": f"Bearer {ask.hf_token}"})
            rows = answer.json()["data"] if answer.status_code == 200 else []
        return {
            row["id"]: {item["provider"]: item.get("context_length") for item in row.get("providers") or []}
            for row in rows
        }
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _transformers(path: str, offline: bool) -> Choice:
    folder = Path(path).expanduser()
    if path.startswith(("/", "~", ".")) and not (folder / "config.json").is_file():
        raise UserError(f"{path} holds no model (no config.json). Give the folder of a model, or ORG/NAME.")

    def make() -> Model:
        from agent.models.local import LocalModel

        return LocalModel(str(folder) if folder.exists() else path, offline=offline)

    return Choice(f"{path} (transformers, in this process)", "as asked", None, make, "transformers")


def _recipes(why: str) -> Choice:
    def make() -> Model:
        return importlib.import_module("agent.models.recipes").build()

    return Choice("recipes", f"{why}; recipes are rules, no language model", None, make, "recipes")
