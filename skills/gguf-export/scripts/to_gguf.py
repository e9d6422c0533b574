# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "safetensors", "numpy==2.4.6"]
# ///
"""Write a Qwen3 dense language model as GGUF, without llama.cpp. Prints JSON. Other models are refused.

Weights are read from safetensors one at a time, so memory stays small. Adapters must be merged before.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import gguf_file as gguf
import numpy as np

LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


class Refused(Exception):
    """Why this model is not written, in one line."""


def load(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def checked(folder: Path) -> dict[str, Any]:
    """The config of a model that this writer knows."""
    if (folder / "adapter_config.json").is_file():
        raise Refused(f"{folder} is an adapter. Merge it first: merge.py.")
    config = load(folder, "config.json")
    if config.get("model_type") != "qwen3":
        kind = config.get("model_type", "nothing known")
        raise Refused(f"{folder} holds {kind}, not qwen3. Use llama.cpp's convert_hf_to_gguf.py for it.")
    rope = rope_of(config)
    if rope.get("rope_type", rope.get("type", "default")) != "default" or config.get("attention_bias"):
        raise Refused("Scaled RoPE and biases are not written here. Use llama.cpp's convert_hf_to_gguf.py.")
    if config.get("use_sliding_window"):
        raise Refused("Sliding windows are not written here. Use llama.cpp's convert_hf_to_gguf.py.")
    return config


def rope_of(config: dict[str, Any]) -> dict[str, Any]:
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def new_name(name: str) -> str:
    if name in TOP:
        return TOP[name]
    parts = name.split(".", 3)
    if parts[:2] == ["model", "layers"] and parts[3] in LAYER:
        return f"blk.{parts[2]}.{LAYER[parts[3]]}"
    raise Refused(f"The weight {name} has no place in a Qwen3 GGUF. Use llama.cpp's convert_hf_to_gguf.py.")


def tensors_of(folder: Path, config: dict[str, Any], kind: str) -> list[gguf.Tensor]:
    import torch
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise Refused(f"{folder} has no .safetensors. Save the model with save_pretrained.")
    made = []
    for path in files:
        with safe_open(path, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                shape = tuple(opened.get_slice(name).get_shape())

                def data(path: Path = path, name: str = name) -> np.ndarray:
                    with safe_open(path, "pt") as again:
                        return again.get_tensor(name).to(torch.float32).numpy()

                made.append(gguf.Tensor(new_name(name), shape, type_for(shape, kind), data))
    wanted = {f"blk.{layer}.{name}" for layer in range(config["num_hidden_layers"]) for name in LAYER.values()}
    wanted |= {"token_embd.weight", "output_norm.weight"}
    wanted |= set() if config.get("tie_word_embeddings") else {"output.weight"}
    if missing := wanted - {one.name for one in made}:
        raise Refused(f"{len(missing)} weights are missing, such as {sorted(missing)[0]}. Is the download whole?")
    return sorted(made, key=lambda one: one.name)


def type_for(shape: tuple[int, ...], kind: str) -> str:
    if len(shape) == 1:
        return "f32"
    return "f16" if kind == "q8_0" and shape[-1] % 32 else kind


def tokens_of(folder: Path, size: int) -> tuple[list[str], list[int], list[str]]:
    """Tokens padded to the size of the embedding, their kinds, and the merges."""
    tokenizer = load(folder, "tokenizer.json")
    if tokenizer.get("model", {}).get("type") != "BPE":
        raise Refused(f"{folder}/tokenizer.json is no BPE tokenizer. Save it with save_pretrained.")
    names = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    kinds = dict.fromkeys(names, NORMAL)
    for added in tokenizer.get("added_tokens", []):
        names[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    if max(names) >= size:
        raise Refused(f"The tokenizer has ids up to {max(names)}, the model {size} rows. They do not belong together.")
    merges = [one if isinstance(one, str) else " ".join(one) for one in tokenizer["model"]["merges"]]
    return [names.get(at, f"[PAD{at}]") for at in range(size)], [kinds.get(at, UNUSED) for at in range(size)], merges


def values_of(folder: Path, config: dict[str, Any], kind: str, name: str) -> dict[str, tuple[int, Any]]:
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    base = rope_of(config).get("rope_theta") or config.get("rope_theta") or 10_000.0
    tokens, kinds, merges = tokens_of(folder, config["vocab_size"])
    u32, f32, string = gguf.U32, gguf.F32_VALUE, gguf.STRING
    values: dict[str, tuple[int, Any]] = {
        "general.architecture": (string, "qwen3"),
        "general.type": (string, "model"),
        "general.name": (string, name),
        "general.file_type": (u32, gguf.TYPES[kind][1]),
        "general.quantization_version": (u32, 2),
        "qwen3.block_count": (u32, config["num_hidden_layers"]),
        "qwen3.context_length": (u32, config["max_position_embeddings"]),
        "qwen3.embedding_length": (u32, config["hidden_size"]),
        "qwen3.feed_forward_length": (u32, config["intermediate_size"]),
        "qwen3.attention.head_count": (u32, heads),
        "qwen3.attention.head_count_kv": (u32, config.get("num_key_value_heads") or heads),
        "qwen3.attention.key_length": (u32, head),
        "qwen3.attention.value_length": (u32, head),
        "qwen3.attention.layer_norm_rms_epsilon": (f32, config["rms_norm_eps"]),
        "qwen3.rope.freq_base": (f32, float(base)),
        "tokenizer.ggml.model": (string, "gpt2"),
        "tokenizer.ggml.pre": (string, "qwen2"),
        "tokenizer.ggml.tokens": (string, tokens),
        "tokenizer.ggml.token_type": (gguf.I32, kinds),
        "tokenizer.ggml.merges": (string, merges),
        "tokenizer.ggml.add_bos_token": (gguf.BOOL, False),
    }
    generation = load(folder, "generation_config.json")
    for part in ("eos", "bos", "pad"):
        found = generation.get(f"{part}_token_id", config.get(f"{part}_token_id"))
        found = found[0] if isinstance(found, list) else found
        if found is not None:
            values[f"tokenizer.ggml.{'padding' if part == 'pad' else part}_token_id"] = (u32, found)
    if template := template_of(folder):
        values["tokenizer.chat_template"] = (string, template)
    return values


def template_of(folder: Path) -> str:
    path = folder / "chat_template.jinja"
    return (
        path.read_text("utf-8") if path.is_file() else load(folder, "tokenizer_config.json").get("chat_template") or ""
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder with config.json, safetensors and tokenizer.json")
    parser.add_argument("out", type=Path, help="the .gguf file to write")
    parser.add_argument("--type", choices=gguf.TYPES, default="f16", help="default: %(default)s")
    parser.add_argument("--name", help="the model's name in the file (default: the folder's)")
    args = parser.parse_args()
    try:
        config = checked(args.model)
        tensors = tensors_of(args.model, config, args.type)
        values = values_of(args.model, config, args.type, args.name or args.model.resolve().name)
    except (Refused, KeyError) as error:
        told = str(error) if isinstance(error, Refused) else f"config.json lacks {error}."
        print(told, file=sys.stderr)
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    gguf.write(args.out, values, tensors)
    told = {"out": str(args.out), "type": args.type, "tensors": len(tensors), "bytes": args.out.stat().st_size}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
