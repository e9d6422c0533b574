"""The peak memory of a training, part by part, in bytes per device.

Follows what torch keeps for the backward pass of a decoder as transformers builds it, TRL's LM head that never holds
all logits, and AdamW. Checked against measured peaks by benchmarks/memory.py (CPU, fp32); on GPUs the same formulas
hold with bf16 sizes and a margin for the allocator, not measured here.
"""

from dataclasses import dataclass, replace
from typing import Literal

from tools.hardware.models import Model

Precision = Literal["fp32", "bf16", "bf16-pure"]  # bf16: fp32 weights under autocast; pure: bf16 weights and states

PAIRED = {"dpo", "reward", "vision-dpo", "embeddings"}  # each row is two sequences
REFERENCED = {
    "dpo",
    "kto",
    "vision-dpo",
}  # a frozen copy beside the trained model, unless an adapter can be switched off
GENERATING = {"grpo", "rloo", "distillation"}
FUSED_HEAD = {"sft", "cpt", "vision-sft", "dpo", "vision-dpo", "kto", "grpo", "rloo", "distillation"}

TILE_TOKENS, TILE_WORDS = 4096, 32_768  # TRL projects the head in tiles of at most this
TILES_CPU = 8.25  # without Triton the tile's gradient is made of seven more tensors and a mask of its size
TILES_GPU = 1.0
NF4 = 0.5 + 1 / 64 + 1 / 256  # four bits and the doubly quantized scales, per parameter
CPU_OVERHEAD = 90 * 2**20  # what the libraries load and allocate after their import, in a run without a model
# glibc gives buffers below this size from its heap, and what is freed there stays with the process: after a few
# steps the gaps between activations are this share of them (35 to 65 % less where such buffers bypass the heap)
HEAP_BELOW, HEAP_GAPS = 32 * 2**20, 0.4
# layers held while one is computed anew: it and its gradients, and on a CPU what its heap did not give back (set from
# one run, and so rough)
ANEW, ANEW_IN_HEAP = 2, 6
CUDA_OVERHEAD = 1.2 * 2**30  # context, cuBLAS workspaces, kernels
CUDA_SLACK = 1.08  # the caching allocator's gaps
# bytes of optimizer state per trained parameter, where it does not follow the number format: two moments in 8 bits with
# their scales; factored moments, which are rows and columns only
STATES = {"paged_adamw_8bit": 2.05, "adafactor": 0.05}


@dataclass(frozen=True)
class Work:
    method: str
    adapter: str = "none"  # none | lora | qlora
    rank: int = 16
    batch: int = 1  # rows per device and forward pass
    length: int = 1024  # tokens of a row, prompt and answer together
    accumulation: int = 1
    checkpointing: bool = False
    generations: int = 0
    completion: int = 0
    generation_steps: int = 0  # forward passes whose completions are generated together; 0: all of a step
    precision: Precision = "bf16"
    device: str = "cuda"
    attention: str = "sdpa"  # or eager, which keeps every attention weight
    optim: str = "adamw_torch_fused"
    gpus: int = 1  # weights, gradients and optimizer are spread over them (FSDP)

    @property
    def sequences(self) -> int:
        return self.batch * (2 if self.method in PAIRED else 1)

    def but(self, **changes: object) -> "Work":
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Peak:
    weights: float
    reference: float
    gradients: float
    optimizer: float
    activations: float
    head: float
    cache: float
    overhead: float
    total: float
    host: float  # main memory of the machine while a GPU trains; on a CPU the total itself

    def parts(self) -> dict[str, float]:
        names = ("weights", "reference", "gradients", "optimizer", "activations", "head", "cache", "overhead")
        return {name: getattr(self, name) for name in names}

    def told(self) -> str:
        return ", ".join(f"{name} {size(value)}" for name, value in self.parts().items() if value >= 2**20)


def peak(model: Model, work: Work) -> Peak:
    """Either the backward pass begins, with all activations, or it ends, with all gradients: the larger counts."""
    trained = trainable(model, work)
    state = 2 if work.precision == "bf16-pure" and work.adapter == "none" else 4
    spread = max(1, work.gpus)
    weights = weight_bytes(model, work) / spread + gathered(model, work)
    reference = reference_bytes(model, work) / spread
    gradients, optimizer = trained * state / spread, trained * STATES.get(work.optim, 2 * state) / spread
    kept, head, cache = activations(model, work), head_bytes(model, work), cache_bytes(model, work)
    begins = kept + head + (gradients if work.accumulation > 1 else 0)
    ends = gradients + tied_gradient(model, work)
    at_work = max(begins, ends, cache)
    slack = 1.0 if work.device == "cpu" else CUDA_SLACK
    overhead = CPU_OVERHEAD if work.device == "cpu" else CUDA_OVERHEAD
    total = (weights + reference + optimizer + at_work) * slack + overhead
    host = total if work.device == "cpu" else host_bytes(model, work)
    return Peak(weights, reference, gradients, optimizer, kept, head, cache, overhead, total, host)


def trainable(model: Model, work: Work) -> int:
    return model.parameters if work.adapter == "none" else model.lora_parameters(work.rank)


def weight_bytes(model: Model, work: Work) -> float:
    """As stored, with what autocast keeps beside them."""
    if work.adapter == "qlora":
        left = model.parameters - model.linear_parameters
        return model.linear_parameters * NF4 + left * 2 + trainable(model, work) * 4
    each = 4 if work.precision == "fp32" else 2
    if work.adapter == "lora":
        return model.parameters * each + trainable(model, work) * 4
    if work.precision == "bf16":  # fp32 to learn in; autocast casts each weight once per step and keeps the copy
        return model.parameters * 4 + (model.parameters * 2 if work.gpus == 1 else 0)
    return model.parameters * each


def reference_bytes(model: Model, work: Work) -> float:
    each = 4 if work.precision == "fp32" or (work.precision == "bf16" and work.adapter == "none") else 2
    copies = 1 if work.method in REFERENCED and work.adapter == "none" else 0
    copies += 1 if work.method == "distillation" else 0  # the teacher, taken to be as large as the pupil
    return copies * model.parameters * each


def gathered(model: Model, work: Work) -> float:
    """Under FSDP two layers and the embeddings are whole on every device."""
    if work.gpus <= 1:
        return 0.0
    layer = (model.parameters - model.vocab * model.hidden) / max(1, model.layers)
    return 2 * (2 * layer + model.vocab * model.hidden)


def activations(model: Model, work: Work) -> float:
    tokens = work.sequences * work.length
    one = tokens * layer_bytes(model, work) + scores(model, work)
    wide = 4 if work.precision != "bf16-pure" else 2
    element = 4 if work.precision == "fp32" else 2
    in_heap = work.device == "cpu" and tokens * model.width * element < HEAP_BELOW
    if work.checkpointing:
        return tokens * model.hidden * wide * model.layers + (ANEW_IN_HEAP if in_heap else ANEW) * one
    transient = tokens * max(2 * model.width, model.query) * element
    return one * model.layers * (1 + HEAP_GAPS * in_heap) + transient


def layer_bytes(model: Model, work: Work) -> float:
    """Per token and layer: what each operation keeps for its backward pass."""
    hidden, query, key, width = model.hidden, model.query, model.key, model.width
    narrow = 4 if work.precision == "fp32" else 2  # inputs of matrix products
    full = work.adapter == "none"
    norms = 4 * (4 * hidden)  # two norms, each with its input and the normalized one, in fp32
    per_head = 4 * (query + key) if model.family.startswith("qwen3") else 0  # their norms on queries and keys
    attention = 3 * query + 3 * key  # projected, rotated, and keys and values as the kernel gets them
    attention += query  # its result, once more in the layout of the next product
    mlp = 4 * width if model.gated else 2 * width  # gate, its activation, up, their product
    kept = 2 * hidden + attention + mlp
    if not full and narrow == 2:  # LoRA casts each module's input anew for its fp32 matrices
        kept += 5 * hidden + query + width
    return norms + per_head + narrow * kept


def scores(model: Model, work: Work) -> float:
    if work.attention != "eager":
        return 0.0
    return work.sequences * model.heads * work.length**2 * (8 if work.precision == "fp32" else 6)


def head_bytes(model: Model, work: Work) -> float:
    """The vocabulary's part: tiles of logits, the gradient of hidden states, and the head's own gradient in fp32."""
    if work.method not in FUSED_HEAD or not model.vocab:
        return 0.0
    scored = work.completion if work.completion and work.device != "cpu" else work.length  # a CPU scores all positions
    tokens = work.sequences * scored
    element = 4 if work.precision == "fp32" else 2
    tile = min(tokens, TILE_TOKENS) * min(model.vocab, TILE_WORDS) * element
    tiles = TILES_CPU if work.device == "cpu" else TILES_GPU
    return tile * tiles + tokens * model.hidden * 4 + tied_gradient(model, work)


def tied_gradient(model: Model, work: Work) -> float:
    """The head's gradient is made in fp32 beside the embedding's."""
    if work.adapter != "none" or work.method not in FUSED_HEAD:
        return 0.0
    return model.vocab * model.hidden * 4.0


def cache_bytes(model: Model, work: Work) -> float:
    """While it generates: keys and values of every running completion, and their last logits."""
    if work.method not in GENERATING:
        return 0.0
    running = work.batch * (work.generation_steps or work.accumulation)
    element = 4 if work.precision == "fp32" else 2
    kept = 2 * model.layers * model.key * work.length * element
    return running * (kept + 4 * model.vocab * 4)


def host_bytes(model: Model, work: Work) -> float:
    """Each process holds the libraries and its data; the weights pass through once."""
    stored = model.parameters * (4 if work.precision == "fp32" else 2)
    return work.gpus * 3 * 2**30 + (stored if work.gpus > 1 else min(stored, 5 * 2**30))


def size(value: float) -> str:
    """In the GB of the cards' names, which are powers of two."""
    return f"{value / 2**30:.1f} GB" if value >= 2**30 else f"{value / 2**20:.0f} MB"
