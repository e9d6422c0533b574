"""How large a model is, from its config.json: parameters, active ones, and the shapes that memory depends on.

Common decoder families are counted by formula; every other architecture transformers knows is laid out without memory
and counted. Nothing is guessed: `source` says where the numbers come from. Remote code is never run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tools.context import ToolError

LLAMA_LIKE = {"llama", "mistral", "mixtral", "smollm3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2"}
TIED = {"gemma", "gemma2", "smollm3"}  # families whose config leaves tied embeddings out because that is their default
NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "encoder_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "encoder_attention_heads", "n_heads"),
    "width": ("intermediate_size", "n_inner", "encoder_ffn_dim", "hidden_dim", "ffn_dim"),
}


@dataclass(frozen=True)
class Model:
    """Shapes are those of one token's way through the text part (or the only part there is)."""

    name: str
    source: str
    parameters: int
    active: int  # parameters that one token passes through
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int  # of the MLP as one token sees it, all its experts together
    vocab: int = 0
    gated: bool = True
    tied: bool = False
    experts: int = 0
    expert_parameters: int = 0  # stored as fused tensors, which 4-bit loading and all-linear LoRA do not reach
    linears: tuple[tuple[int, int, int], ...] = ()  # (inputs, outputs, how many), without the head
    context: int | None = None
    family: str = ""
    decoder: bool = True
    vision: int = 0  # parameters of the vision tower
    exact: bool = True

    @property
    def query(self) -> int:
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def linear_parameters(self) -> int:
        return sum(inputs * outputs * count for inputs, outputs, count in self.linears)

    def lora_parameters(self, rank: int) -> int:
        return sum(rank * (inputs + outputs) * count for inputs, outputs, count in self.linears)

    def told(self) -> str:
        count = short(self.parameters)
        active = f", {short(self.active)} active per token" if self.active < self.parameters else ""
        return f"{count} parameters{active} ({self.source})"


def short(count: float) -> str:
    """596M, 8.19B."""
    return f"{count / 1e9:.3g}B" if count >= 1e9 else f"{count / 1e6:.3g}M"


def from_config(config: dict[str, Any], name: str = "", source: str = "config.json") -> Model:
    if config.get("model_type") in LLAMA_LIKE:
        return by_formula(config, name, source)
    return by_layout(config, name, source)


def by_formula(config: dict[str, Any], name: str, source: str) -> Model:
    """Decoders with gated MLPs and RMS norms, dense or with experts."""
    family = config["model_type"]
    hidden, layers, heads, width = (int(config[NAMES[key][0]]) for key in ("hidden", "layers", "heads", "width"))
    vocab = int(config["vocab_size"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or (128 if family.startswith("qwen3") else hidden // heads))
    tied = bool(config.get("tie_word_embeddings", family in TIED))
    query, key = heads * head_dim, kv_heads * head_dim
    attention = [(hidden, query, 1), (hidden, key, 2), (query, hidden, 1)]
    biased = family.startswith("qwen2") or bool(config.get("attention_bias"))
    small = query + 2 * key if biased else 0
    small += hidden if config.get("attention_bias") and not family.startswith("qwen2") else 0
    small += 2 * head_dim if family.startswith("qwen3") else 0
    small += hidden * (4 if family == "gemma2" else 2)
    sparse, dense, expert, experts, chosen = mlp(config, layers)
    linears = [(inputs, outputs, count * layers) for inputs, outputs, count in attention]
    linears += [(hidden, width, 2 * dense), (width, hidden, dense)] if dense else []
    shared = int(config.get("shared_expert_intermediate_size") or 0) if family == "qwen2_moe" else 0
    if shared:
        linears += [(hidden, shared, 2 * sparse), (shared, hidden, sparse), (hidden, 1, sparse)]
    in_linears = sum(inputs * outputs * count for inputs, outputs, count in linears)
    one_expert = 3 * hidden * expert
    in_experts = sparse * experts * one_expert
    routers = sparse * experts * hidden
    rest = vocab * hidden * (1 if tied else 2) + layers * small + hidden
    total = in_linears + in_experts + routers + rest
    return Model(
        name=name,
        source=source,
        parameters=total,
        active=total - sparse * (experts - chosen) * one_expert,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        width=chosen * expert + shared if sparse else width,
        vocab=vocab,
        tied=tied,
        experts=experts,
        expert_parameters=in_experts,
        linears=tuple(linears),
        context=config.get("max_position_embeddings"),
        family=family,
    )


def mlp(config: dict[str, Any], layers: int) -> tuple[int, int, int, int, int]:
    """Layers with experts, layers without, an expert's width, how many there are and how many a token takes."""
    experts = int(config.get("num_experts") or config.get("num_local_experts") or 0)
    if not experts:
        return 0, layers, 0, 0, 0
    step, without = config.get("decoder_sparse_step") or 1, set(config.get("mlp_only_layers") or [])
    sparse = sum((at + 1) % step == 0 and at not in without for at in range(layers))
    width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    return sparse, layers - sparse, width, experts, int(config.get("num_experts_per_tok") or 1)


def by_layout(config: dict[str, Any], name: str, source: str) -> Model:
    """Any architecture transformers knows, built on the meta device: shapes without storage."""
    import torch
    import transformers

    kind = config.get("model_type") or ""
    try:
        known = transformers.AutoConfig.for_model(**config)
        built = getattr(transformers, (config.get("architectures") or [""])[0], None)
        with torch.device("meta"):
            laid_out = built(known) if built else transformers.AutoModel.from_config(known)
    except Exception as error:  # the library raises anything at a config it cannot read
        reason = " ".join(str(error).split())[:200]
        raise ToolError(
            f"The architecture {kind!r} of {name or 'this model'} cannot be laid out here ({reason}). "
            "Choose another model, or one that this version of transformers knows."
        ) from None
    text = known.get_text_config()
    total, vision = 0, 0
    for path, parameter in laid_out.named_parameters():  # a tied tensor comes once
        total += parameter.numel()
        vision += parameter.numel() if "vis" in path.lower() and text is not known else 0
    in_experts = sum(p.numel() for path, p in laid_out.named_parameters() if ".experts." in path and p.dim() >= 2)
    experts = first(text, "num_experts", "num_local_experts", "n_routed_experts") or 0
    chosen = first(text, "num_experts_per_tok", "top_k_experts") or experts
    shape = {key: int(first(text, *names) or 0) for key, names in NAMES.items()}
    head = laid_out.get_output_embeddings() if hasattr(laid_out, "get_output_embeddings") else None
    heads = shape["heads"] or 1
    width = shape["width"] or 4 * shape["hidden"]
    expert_width = first(text, "moe_intermediate_size")
    return Model(
        name=name,
        source=source,
        parameters=total,
        active=total - (in_experts * (experts - chosen) // experts if experts else 0),
        hidden=shape["hidden"],
        layers=shape["layers"],
        heads=heads,
        kv_heads=first(text, "num_key_value_heads") or heads,
        head_dim=first(text, "head_dim") or shape["hidden"] // heads,
        width=chosen * (expert_width or width) if experts else width,
        vocab=int(getattr(text, "vocab_size", 0) or 0),
        gated=any("gate_proj" in path or "gate_up_proj" in path for path, _ in laid_out.named_parameters()),
        tied=bool(head is not None and head.weight is laid_out.get_input_embeddings().weight),
        experts=experts,
        expert_parameters=in_experts,
        linears=tuple(linear_shapes(laid_out, head)),
        context=first(text, "max_position_embeddings"),
        family=kind,
        decoder="ForCausalLM" in type(laid_out).__name__ or "ConditionalGeneration" in type(laid_out).__name__,
        vision=vision,
    )


def linear_shapes(laid_out: Any, head: Any) -> Iterator[tuple[int, int, int]]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for module in laid_out.modules():
        if isinstance(module, Conv1D):  # GPT-2's name for a linear layer
            yield module.nx, module.nf, 1
        if isinstance(module, nn.Linear) and module is not head:
            yield module.in_features, module.out_features, 1


def first(config: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)
