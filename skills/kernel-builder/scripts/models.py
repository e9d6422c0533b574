"""A model's config, from a folder, the Hub, or the dated table that comes with the skill; it always says which.

The model itself is only built on the meta device: no weight is ever read.
"""

import tomllib
from pathlib import Path
from typing import Any

from project import SKILL, Mistake

TABLE = SKILL / "assets" / "models.toml"
STATE = "2026-11"


def config_of(name: str) -> tuple[Any, str, str]:
    """The config, the model's full name, and where it was read."""
    from transformers import AutoConfig

    if Path(name).is_dir():
        return AutoConfig.from_pretrained(name), name, "the folder"
    row = in_table(name)
    known = row["id"] if row else name
    here = not reachable()
    try:
        config = AutoConfig.from_pretrained(known, local_files_only=here)
        return config, known, "the Hub's cache here" if here else "the Hub"
    except (OSError, ValueError) as error:
        if row is None:
            raise Mistake(
                f"The config of {name} cannot be read ({type(error).__name__}) and is not in the table of models. "
                "Give a folder with its config.json, or leave the model out."
            ) from None
    told = {key: value for key, value in row.items() if key not in ("id", "model_type")}
    return AutoConfig.for_model(row["model_type"], **told), known, f"the skill's table, state of {STATE}"


def reachable() -> bool:
    """Whether the Hub answers; asked once and briefly, since its client would try for half a minute."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        return httpx.head(constants.ENDPOINT, timeout=4, follow_redirects=True).status_code < 500
    except httpx.HTTPError:
        return False


def in_table(name: str) -> dict[str, Any] | None:
    """By its full name, or by the part after the slash."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["model"]
    wanted = name.lower()
    for row in rows:
        if wanted in (row["id"].lower(), row["id"].lower().partition("/")[2]):
            return row
    return None


def on_meta(config: Any) -> Any:
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    with torch.device("meta"):
        try:
            return AutoModelForCausalLM.from_config(config).eval()
        except ValueError:
            return AutoModel.from_config(config).eval()


SMALL = {
    "hidden_size": 256, "n_embd": 256, "intermediate_size": 512, "n_inner": 512, "num_attention_heads": 4, "n_head": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 512, "num_hidden_layers": 2, "n_layer": 2,
    "max_window_layers": 2, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


def small(config: dict[str, Any]) -> Any:
    """The same architecture with two narrow layers: what fits anywhere and still has every kind of module."""
    from transformers import AutoConfig

    told = {name: SMALL.get(name, value) for name, value in config.items() if name not in ("model_type", "layer_types")}
    return AutoConfig.for_model(config["model_type"], **told)


def calls_of(model: Any, tokens: int) -> list[tuple[str, Any, list[int]]]:
    """Every leaf module in the order of a forward pass over so many tokens: name, module, shape of its input."""
    import torch

    seen: list[tuple[str, Any, list[int]]] = []

    def note(name: str) -> Any:
        def hook(module: Any, given: tuple) -> None:
            if given and isinstance(given[0], torch.Tensor):
                seen.append((name, module, list(given[0].shape)))

        return hook

    handles = [one.register_forward_pre_hook(note(name)) for name, one in model.named_modules() if name]
    try:
        with torch.no_grad():
            ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
            mask = torch.zeros(1, 1, tokens, tokens, device="meta")  # ready made: making one looks at values
            model(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen
