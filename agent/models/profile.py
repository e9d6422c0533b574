"""What is known about one model on one server: what the probe found, kept as JSON, and how that server is spoken to.

Without a probe the defaults here hold: no stop strings are sent, the block's end is cut in the client, and a server
that may start its answers inside a thought without saying so (`leads` None) is read to the end once, to find out.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

SWITCH: dict = {"chat_template_kwargs": {"enable_thinking": False}}
EFFORT: dict = {"reasoning_effort": "none"}
THINKING_OFF = {"vllm": SWITCH, "sglang": SWITCH, "llamacpp": SWITCH, "ollama": EFFORT, "lmstudio": EFFORT}
SAMPLING_FIELDS = {  # beyond the OpenAI fields, where the server is known to take them
    "vllm": ("top_k", "min_p"),
    "sglang": ("top_k", "min_p"),
    "llamacpp": ("top_k", "min_p"),
    "lmstudio": ("top_k",),
}
THINKING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0}
PLAIN = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.0}
SPLITS_THOUGHTS = ("ollama", "llamacpp", "lmstudio")  # never leave a closing tag alone in the content
ROOM = 16_384  # tokens of an answer, thoughts included
ROOM_UNKNOWN = 4_096  # the same where the window is not known


@dataclass(frozen=True)
class Profile:
    kind: str = "openai"
    window: int | None = None
    max_tokens: int | None = None
    send_stops: bool = False
    leads: bool | None = None
    thinking: bool | None = None  # None: as the server likes; False: switched off with `extra`
    extra: dict = field(default_factory=dict)
    usage: bool = True
    streams: bool = True
    reasoning_field: str | None = None
    first_token: float | None = None
    version: str | None = None
    checked: str | None = None

    def save(self, folder: Path, base_url: str, model: str) -> Path:
        path = _path(folder, base_url, model)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"base_url": base_url, "model": model, **asdict(self)}, indent=1))
        return path


def load_profile(folder: Path, base_url: str, model: str) -> Profile | None:
    """None when this model was not probed on this server, or the file is not ours."""
    try:
        found = json.loads(_path(folder, base_url, model).read_text())
        known = {item.name for item in fields(Profile)}
        return Profile(**{name: value for name, value in found.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def default_profile(kind: str, model: str, window: int | None = None) -> Profile:
    name = model.lower()
    plain = "coder" in name and "qwen" in name  # Qwen's coders never think
    leads = False if kind in SPLITS_THOUGHTS or plain else None
    extra = {"reasoning_effort": "medium"} if "qwen3.8" in name else {}  # their default thinks without end
    return Profile(kind=kind, window=window, leads=leads, thinking=False if plain else None, extra=extra)


def thinking_off(kind: str) -> dict:
    return THINKING_OFF.get(kind, {})


def _path(folder: Path, base_url: str, model: str) -> Path:
    name = hashlib.sha256("\n".join([base_url, model]).encode()).hexdigest()[:20]
    return folder / f"{name}.json"
