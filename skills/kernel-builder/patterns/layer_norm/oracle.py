"""The truth about LayerNorm over the last dimension: mean and variance in float32, rounded once at the end."""

import math

import torch
import torch.nn.functional as F

OP, TITLE = "layer_norm", "LayerNorm"
NAMES = ["LN", "layernorm"]
SCHEMA = "layer_norm(Tensor! out, Tensor x, Tensor weight, Tensor bias, float eps) -> ()"
DTYPES = ["float32", "float16", "bfloat16"]
LAYER, MODULES = "LayerNorm", r"LayerNorm"
SHAPES = [
    {"rows": rows, "D": width}
    for rows, width in [
        (1, 1), (0, 64), (3, 1), (1, 7), (5, 31), (2, 32), (3, 33), (7, 128), (4, 129), (2, 768), (3, 1000),
        (2, 1024), (3, 1025), (2, 2048), (1, 4096), (3, 4095), (1, 8192), (1, 16385),
    ]
]  # fmt: skip
TYPICAL = [{"rows": 4096, "D": 1024}, {"rows": 1, "D": 1024}]


def reference(x, weight, bias, eps):
    return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)


functional = reference


def oracle(x, weight, bias, eps):
    """Arguments come as float64."""
    away = x - x.mean(-1, keepdim=True)
    return away * torch.rsqrt(away.pow(2).mean(-1, keepdim=True) + eps) * weight + bias


def magnitude(x, weight, bias, eps):
    """How large the numbers are that cancel in a result: its error is measured in their units."""
    mean = x.mean(-1, keepdim=True)
    scale = torch.rsqrt((x - mean).pow(2).mean(-1, keepdim=True) + eps)
    return (x.abs() + mean.abs()) * scale * weight.abs() + bias.abs()


def of_module(module, shape):
    """The size of a call, from the module that would be replaced and the shape of its input."""
    return {"rows": math.prod(shape[:-1]), "D": module.weight.shape[0], "eps": module.eps}


def make(size, dtype, generator, scale=1.0):
    """Arguments without the outputs. Rows are away from zero; weight and bias are random, not ones and zeros."""
    x = (torch.randn(size["rows"], size["D"], generator=generator) + 1.5) * scale
    weight = torch.rand(size["D"], generator=generator) * 2 - 0.5
    bias = torch.randn(size["D"], generator=generator)
    return {"x": x.to(dtype), "weight": weight.to(dtype), "bias": bias.to(dtype), "eps": size.get("eps", 1e-5)}


def empty(x, weight, bias, eps):
    return {"out": torch.empty(x.shape, dtype=x.dtype, device=x.device)}


def cost(x, weight, bias, eps):
    """Bytes that must move and operations that must be done, at the least."""
    moved = 2 * x.numel() + weight.numel() + bias.numel()
    return {"bytes": moved * x.element_size(), "flops": 7 * x.numel()}


def refused(x, weight, bias, eps):
    """Calls beyond the general ones that must be refused."""
    return [
        ("a weight of another width", {"x": x, "weight": weight[:-1], "bias": bias, "eps": eps}),
        ("a bias of another width", {"x": x, "weight": weight, "bias": bias[:-1], "eps": eps}),
    ]
