"""Finding a model's size by its id or folder: config.json first, then the safetensors header, last its name.

Reads a few kilobytes, never weights. What could not be read exactly says so in `source`.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.context import ToolError, here
from tools.hardware.models import NAMES, Model, from_config
from tools.hubs import files
from tools.hubs.cache import cached_snapshot, safetensors_parameters
from tools.hubs.client import Missing, Unreachable, reach
from tools.hubs.place import Place, place_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SIZE = re.compile(
    r"(?<![A-Za-z\d.])(\d+)[xX](\d+(?:\.\d+)?)[bB](?![A-Za-z])|(?<![A-Za-z\d.])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z])"
)
ACTIVE = re.compile(r"(?<![A-Za-z])[aA](\d+(?:\.\d+)?)[bB](?![A-Za-z])")
# usual shapes of dense decoders by billions of parameters: hidden, layers, heads, key heads, width
USUAL = [
    (0.15, (576, 30, 9, 3, 1536)),
    (0.7, (1024, 28, 16, 8, 3072)),
    (2.2, (2048, 28, 16, 8, 6144)),
    (5.5, (2560, 36, 32, 8, 9728)),
    (11, (4096, 36, 32, 8, 12288)),
    (20, (5120, 40, 40, 8, 17408)),
    (45, (5120, 64, 64, 8, 25600)),
    (float("inf"), (8192, 80, 64, 8, 28672)),
]
USUAL_VOCAB = 151_936
MOST_CONFIG = 1_000_000


@dataclass(frozen=True)
class Found:
    model: Model
    revision: str | None
    note: str = ""


def load(name: str, revision: str | None = None) -> Found:
    """The model of that id or folder, as exactly as it can be known here."""
    folder = local_folder(name)
    if folder:
        return Found(from_folder(folder, name), None)
    if name.startswith(("/", "~", ".")):
        raise ToolError(f"There is no folder {name!r}. Give a folder with a config.json, or a model id of the Hub.")
    try:
        return from_hub(place_of(name, "model", revision))
    except Missing:
        raise
    except Unreachable as problem:
        return by_name(name, str(problem))
    except ToolError as problem:
        if "cache" not in str(problem):
            raise
        return by_name(name, str(problem))


def local_folder(name: str) -> Path | None:
    path = here().folder / Path(name).expanduser()
    return path if path.is_dir() else None


def from_folder(folder: Path, name: str) -> Model:
    if (folder / "config.json").is_file():
        config = parsed((folder / "config.json").read_text(), f"{name}/config.json")
        return counted(config, name, "its config.json", lambda: headers(folder))
    if (folder / "adapter_config.json").is_file():
        base = parsed((folder / "adapter_config.json").read_text(), name).get("base_model_name_or_path")
        raise ToolError(f"{name!r} is an adapter, not a model. Plan with its base model: {base or 'see its README'}.")
    raise ToolError(f"{name!r} has no config.json. Give the folder in which the model was saved.")


def from_hub(place: Place) -> Found:
    told, note = reach(record_online(place), lambda: record_cached(place))
    at = Place("model", place.repo_id, place.revision, "config.json")
    _, piece, _ = files.piece(at, 0, MOST_CONFIG)
    config = parsed(piece.content.decode("utf-8", "replace"), str(at))
    model = counted(config, place.repo_id, "its config.json", lambda: told["parameters"])
    return Found(model, told["revision"], note)


def record_online(place: Place) -> Any:
    def question(api: "HfApi") -> dict[str, Any]:
        info = api.model_info(place.repo_id, revision=place.revision)
        return {"revision": info.sha, "parameters": info.safetensors.total if info.safetensors else 0}

    return question


def record_cached(place: Place) -> dict[str, Any]:
    folder, _ = cached_snapshot(place)
    return {"revision": folder.name, "parameters": headers(folder)}


def headers(folder: Path) -> int:
    return sum(sum(safetensors_parameters(path).values()) for path in sorted(folder.glob("*.safetensors")))


def counted(config: dict[str, Any], name: str, source: str, weights: Any) -> Model:
    """By config; where that cannot be laid out, the weights' own header gives the count."""
    try:
        return from_config(config, name, source)
    except (ToolError, KeyError) as problem:
        total = weights()
        if not total:
            if isinstance(problem, ToolError):
                raise
            raise ToolError(f"The config.json of {name} lacks {problem}. Choose a complete model.") from None
    return from_header(config, name, total)


def from_header(config: dict[str, Any], name: str, total: int) -> Model:
    text = config.get("text_config") or config
    shape = {key: next((int(text[one]) for one in names if text.get(one)), 0) for key, names in NAMES.items()}
    if not all(shape.values()):
        usual = usual_shape(total)
        shape = dict(zip(("hidden", "layers", "heads", "width"), (*usual[:3], usual[4]), strict=True)) | {
            key: value for key, value in shape.items() if value
        }
    source = "counted in the safetensors header; its architecture is not known here, so memory is less certain"
    kv_heads = int(text.get("num_key_value_heads") or shape["heads"])
    vocab = int(text.get("vocab_size") or 0)
    return plain(name, source, total, shape, kv_heads, int(text.get("head_dim") or 0), vocab)


def by_name(name: str, problem: str) -> Found:
    """The last resort, told as such: a size written in the name, and the usual shape of models that large."""
    found = SIZE.search(name.rsplit("/", 1)[-1])
    if not found:
        raise ToolError(
            f"{problem} The size of {name!r} cannot be read from its name either. "
            "Give a local folder with its config.json, or connect to the Hub."
        )
    if found[1]:
        total = int(float(found[1]) * float(found[2]) * 1e9)
    else:
        total = int(float(found[3]) * (1e9 if found[4] in "bB" else 1e6))
    stated = ACTIVE.search(name)
    active = int(float(stated[1]) * 1e9) if stated else total
    usual = usual_shape(active)
    shape = dict(zip(("hidden", "layers", "heads", "width"), (*usual[:3], usual[4]), strict=True))
    model = plain(name, "read from its name, not checked", total, shape, usual[3], 0, USUAL_VOCAB, active)
    return Found(model, None, f"{problem} The size is read from the name and the shape is the usual one.")


def usual_shape(total: int) -> tuple[int, int, int, int, int]:
    return next(shape for most, shape in USUAL if total < most * 1e9)


def plain(
    name: str, source: str, total: int, shape: dict[str, int], kv_heads: int, head_dim: int, vocab: int, active: int = 0
) -> Model:
    hidden, layers, heads, width = (shape[key] for key in ("hidden", "layers", "heads", "width"))
    head_dim = head_dim or hidden // heads
    query, key = heads * head_dim, kv_heads * head_dim
    active = active or total
    linears = [(hidden, query), (hidden, key), (hidden, key), (query, hidden)]
    if active == total:  # all-linear LoRA does not reach fused experts
        linears += [(hidden, width), (hidden, width), (width, hidden)]
    return Model(
        name,
        source,
        total,
        active,
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        width,
        vocab,
        experts=0 if active == total else 1,
        expert_parameters=0 if active == total else total - active,
        linears=tuple((inputs, outputs, layers) for inputs, outputs in linears),
        exact=False,
    )


def parsed(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise ToolError(f"{where} is not valid JSON. Download the model again, or choose another.") from None
    if not isinstance(value, dict):
        raise ToolError(f"{where} is not a config. Choose a model saved by transformers.")
    return value
