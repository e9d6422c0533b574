"""The truth about the residual addition with RMSNorm: the sum is rounded and kept, the norm is taken of what was kept.

The normalised value is rounded to the dtype before the weight is multiplied in, as in RMSNorm alone.
"""

import torch

OP, TITLE = "add_rms_norm", "residual addition and RMSNorm"
NAMES = ["residual rmsnorm", "fused add rmsnorm", "residual add and RMSNorm", "element-wise fusion"]
SCHEMA = "add_rms_norm(Tensor! out, Tensor! total, Tensor x, Tensor residual, Tensor weight, float eps) -> ()"
DTYPES = ["float32", "float16", "bfloat16"]
LAYER, MODULES = None, None
SHAPES = [
    {"rows": rows, "D": width}
    for rows, width in [
        (1, 1), (0, 64), (3, 1), (1, 7), (5, 31), (2, 32), (3, 33), (7, 128), (4, 129), (3, 1000), (2, 1024),
        (3, 1025), (1, 4096), (3, 4095), (2, 5120), (1, 8192), (1, 16385),
    ]
]  # fmt: skip
TYPICAL = [{"rows": 4096, "D": 4096}, {"rows": 1, "D": 4096}]


def reference(x, residual, weight, eps):
    """As a decoder layer does it."""
    total = x + residual
    wide = total.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype), total


def oracle(x, residual, weight, eps, rounded):
    """Arguments come as float64; `rounded` gives what the dtype under test keeps of a value."""
    total = rounded(x + residual)
    return weight * rounded(total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + eps)), total


def of_config(config, tokens):
    return [{"rows": tokens, "D": config.hidden_size, "eps": config.rms_norm_eps}]


def make(size, dtype, generator, scale=1.0):
    x, residual = (torch.randn(size["rows"], size["D"], generator=generator) * scale for _ in range(2))
    weight = torch.rand(size["D"], generator=generator) * 2 - 0.5
    tensors = {"x": x.to(dtype), "residual": residual.to(dtype), "weight": weight.to(dtype)}
    return {**tensors, "eps": size.get("eps", 1e-6)}


def empty(x, residual, weight, eps):
    return {name: torch.empty(x.shape, dtype=x.dtype, device=x.device) for name in ("out", "total")}


def cost(x, residual, weight, eps):
    """Bytes that must move and operations that must be done, at the least."""
    return {"bytes": (4 * x.numel() + weight.numel()) * x.element_size(), "flops": 5 * x.numel()}


def refused(x, residual, weight, eps):
    """Calls beyond the general ones that must be refused."""
    return [
        ("a weight of another width", {"x": x, "residual": residual, "weight": weight[:-1], "eps": eps}),
        ("a residual of another shape", {"x": x, "residual": residual[:-1], "weight": weight, "eps": eps}),
    ]
