"""The truth about SwiGLU's middle, silu(gate) * up: silu is rounded to the dtype before it is multiplied."""

import torch
import torch.nn.functional as F

OP, TITLE = "silu_mul", "SwiGLU (silu and multiply)"
NAMES = ["SwiGLU", "silu and mul", "silu and multiply"]
SCHEMA = "silu_mul(Tensor! out, Tensor gate, Tensor up) -> ()"
DTYPES = ["float32", "float16", "bfloat16"]
LAYER, MODULES = None, None
SHAPES = [
    {"rows": rows, "D": width}
    for rows, width in [
        (1, 1), (0, 64), (3, 1), (1, 7), (5, 31), (2, 32), (3, 33), (7, 128), (4, 129), (3, 1000), (2, 1025),
        (1, 4096), (3, 4095), (1, 12288), (2, 5120), (2051, 3),
    ]
]  # fmt: skip
TYPICAL = [{"rows": 2048, "D": 12288}, {"rows": 1, "D": 12288}]


def reference(gate, up):
    """As the models' MLP does it."""
    return F.silu(gate) * up


def oracle(gate, up, rounded):
    """Arguments come as float64; `rounded` gives what the dtype under test keeps of a value."""
    return rounded(gate * torch.sigmoid(gate)) * up


def of_config(config, tokens):
    return [{"rows": tokens, "D": config.intermediate_size}]


def make(size, dtype, generator, scale=1.0):
    gate = torch.randn(size["rows"], size["D"], generator=generator) * scale * 3
    up = torch.randn(size["rows"], size["D"], generator=generator) * scale
    return {"gate": gate.to(dtype), "up": up.to(dtype)}


def empty(gate, up):
    return {"out": torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)}


def cost(gate, up):
    """Bytes that must move and operations that must be done, at the least."""
    return {"bytes": 3 * gate.numel() * gate.element_size(), "flops": 5 * gate.numel()}


def refused(gate, up):
    """Calls beyond the general ones that must be refused."""
    return [("an up of another width", {"gate": gate, "up": up[..., :-1].contiguous()})]
