"""The truth about RMSNorm: what Llama and Qwen compute, in the input's dtype and in float64, and what must be tried.

The normalised value is rounded to the input's dtype before the weight is multiplied in; the sum is taken in float32.
"""

import math

import torch
import torch.nn.functional as F

OP, TITLE = "rms_norm", "RMSNorm"
NAMES = ["rmsnorm kernel", "root mean square norm"]
SCHEMA = "rms_norm(Tensor! out, Tensor x, Tensor weight, float eps) -> ()"
DTYPES = ["float32", "float16", "bfloat16"]
LAYER, MODULES = "RMSNorm", r"(Llama|Mistral|Qwen\d|Qwen3Moe|Phi3|Olmo3|SmolLM3)RMSNorm"
SHAPES = [
    {"rows": rows, "D": width}
    for rows, width in [
        (1, 1), (0, 64), (3, 1), (1, 7), (5, 31), (2, 32), (3, 33), (7, 128), (4, 129), (2, 255), (3, 1000),
        (2, 1024), (3, 1025), (2, 2048), (1, 4096), (3, 4095), (2, 5120), (1, 8192), (1, 16385),
    ]
]  # fmt: skip
TYPICAL = [{"rows": 4096, "D": 4096}, {"rows": 1, "D": 4096}]


def reference(x, weight, eps):
    """As the models' own modules do it."""
    wide = x.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def functional(x, weight, eps):
    """torch's own, which rounds once, after the weight."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def oracle(x, weight, eps, rounded):
    """Arguments come as float64; `rounded` gives what the dtype under test keeps of a value."""
    return weight * rounded(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def of_module(module, shape):
    """The size of a call, from the module that would be replaced and the shape of its input."""
    return {"rows": math.prod(shape[:-1]), "D": module.weight.shape[0], "eps": module.variance_epsilon}


def make(size, dtype, generator, scale=1.0):
    """Arguments without the outputs. The weight is random: ones would hide a kernel that forgets it."""
    x = torch.randn(size["rows"], size["D"], generator=generator) * scale
    weight = torch.rand(size["D"], generator=generator) * 2 - 0.5
    return {"x": x.to(dtype), "weight": weight.to(dtype), "eps": size.get("eps", 1e-6)}


def empty(x, weight, eps):
    return {"out": torch.empty(x.shape, dtype=x.dtype, device=x.device)}


def cost(x, weight, eps):
    """Bytes that must move and operations that must be done, at the least."""
    return {"bytes": (2 * x.numel() + weight.numel()) * x.element_size(), "flops": 4 * x.numel()}


def refused(x, weight, eps):
    """Calls beyond the general ones that must be refused."""
    return [("a weight of another width", {"x": x, "weight": weight[:-1], "eps": eps})]
