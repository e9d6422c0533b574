"""The truth about a product with an 8-bit weight: `out[r, n]` sums `x[r, k] * weight[n, k] * scale[n, k / group]`.

The weight is int8 with one scale for each group of columns; sums are taken in float32 and rounded once. For a few rows,
as in decoding: the weight is read once and never stored in another type.
"""

import torch

OP, TITLE = "gemv_q8", "GEMV with an 8-bit weight"
NAMES = ["quantised GEMV", "quantized GEMV", "int8 GEMV", "GEMV", "8-bit GEMV"]
SCHEMA = "gemv_q8(Tensor! out, Tensor x, Tensor weight, Tensor scale) -> ()"
DTYPES = ["float32", "float16", "bfloat16"]
LAYER, MODULES = None, None
VECTOR = ["load"]  # a result is one number: nothing wide to store
FINITE = ["scale"]  # a quantiser makes it
SHAPES = [
    {"rows": rows, "N": n, "K": k, "group": group}
    for rows, n, k, group in [
        (1, 1, 1, 1), (0, 3, 32, 32), (1, 1, 7, 7), (1, 5, 31, 31), (2, 9, 32, 16), (3, 17, 64, 32), (1, 8, 128, 128),
        (1, 13, 129, 43), (2, 33, 256, 64), (1, 3, 1024, 128), (1, 7, 1040, 16), (1, 9, 4096, 128),
    ]
]  # fmt: skip
TYPICAL = [{"rows": 1, "N": 4096, "K": 4096, "group": 128}, {"rows": 1, "N": 12288, "K": 4096, "group": 128}]


def wide_weight(weight, scale):
    return weight.to(scale.dtype) * scale.repeat_interleave(weight.shape[1] // scale.shape[1], 1)


def reference(x, weight, scale):
    """Weight widened, then multiplied, in float32."""
    return (x.float() @ wide_weight(weight, scale.float()).T).to(x.dtype)


def functional(x, weight, scale):
    """Weight widened to x's dtype: one rounding more, and the whole of it is stored."""
    return torch.nn.functional.linear(x, wide_weight(weight, scale))


def oracle(x, weight, scale):
    """x and scale come as float64."""
    return x @ wide_weight(weight, scale).T


def magnitude(x, weight, scale):
    """How large the numbers are that cancel in a result: its error is measured in their units."""
    return x.abs() @ wide_weight(weight, scale).abs().T


def of_config(config, tokens):
    sizes = [(config.intermediate_size, config.hidden_size), (config.hidden_size, config.intermediate_size)]
    return [{"rows": 1, "N": n, "K": k, "group": 128} for n, k in sizes] if tokens == 1 else []


def make(size, dtype, generator, scale=1.0):
    rows, n, k, group = size["rows"], size["N"], size["K"], size["group"]
    x = torch.randn(rows, k, generator=generator) * scale
    weight = torch.randint(-128, 128, (n, k), generator=generator, dtype=torch.int8)
    scales = (torch.rand(n, k // group, generator=generator) + 0.1) / 128
    return {"x": x.to(dtype), "weight": weight, "scale": scales.to(dtype)}


def empty(x, weight, scale):
    return {"out": torch.empty(x.shape[0], weight.shape[0], dtype=x.dtype, device=x.device)}


def cost(x, weight, scale):
    """Bytes that must move and operations that must be done, at the least."""
    halves = x.numel() + scale.numel() + x.shape[0] * weight.shape[0]
    return {"bytes": weight.numel() + halves * x.element_size(), "flops": 2 * x.shape[0] * weight.numel()}


def refused(x, weight, scale):
    """Calls beyond the general ones that must be refused."""
    return [
        ("x of another width", {"x": x[..., :-1].contiguous(), "weight": weight, "scale": scale}),
        ("scales of fewer rows", {"x": x, "weight": weight, "scale": scale[:-1]}),
    ]
