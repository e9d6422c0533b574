"""The truth about softmax over the last dimension: computed in float32 at least, rounded once at the end."""

import torch
import torch.nn.functional as F

OP, TITLE = "softmax", "Softmax"
NAMES = ["row softmax"]
SCHEMA = "softmax(Tensor! out, Tensor x) -> ()"
DTYPES = ["float32", "float16", "bfloat16"]
LAYER, MODULES = None, None
SHAPES = [
    {"rows": rows, "D": width}
    for rows, width in [
        (1, 1), (0, 64), (3, 1), (1, 7), (5, 31), (2, 32), (3, 33), (7, 128), (4, 129), (3, 1000), (2, 1024),
        (3, 1025), (2, 2048), (1, 4096), (3, 4095), (1, 8192), (1, 16385),
    ]
]  # fmt: skip
TYPICAL = [{"rows": 4096, "D": 4096}, {"rows": 32, "D": 4096}]


def reference(x):
    return torch.softmax(x, -1, dtype=torch.float32).to(x.dtype)


def functional(x):
    return F.softmax(x, -1)


def oracle(x):
    """Arguments come as float64."""
    return torch.softmax(x, -1)


def of_config(config, tokens):
    """Attention scores of one layer: a row for each head and query."""
    return [{"rows": config.num_attention_heads * min(tokens, 512), "D": 4096}]


def make(size, dtype, generator, scale=1.0):
    x = torch.randn(size["rows"], size["D"], generator=generator) * scale
    return {"x": x.to(dtype)}


def empty(x):
    return {"out": torch.empty(x.shape, dtype=x.dtype, device=x.device)}


def cost(x):
    """Bytes that must move and operations that must be done, at the least."""
    return {"bytes": 2 * x.numel() * x.element_size(), "flops": 4 * x.numel()}
