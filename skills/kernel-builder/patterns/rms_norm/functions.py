"""RMSNorm as a function of torch tensors."""

import torch

from ._ops import add_op_namespace_prefix, ops


@torch.library.register_fake(add_op_namespace_prefix("rms_norm"))
def _(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float) -> None:
    torch._check(out.shape == x.shape, lambda: "out must have the shape of x")
    torch._check(out.dtype == x.dtype == weight.dtype, lambda: "out, x and weight must have one dtype")


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6, out: torch.Tensor | None = None) -> torch.Tensor:
    """`weight * x / sqrt(mean(x²) + eps)` over the last dimension, as Llama and Qwen compute it. No gradient."""
    if not x.is_contiguous() and (x.dim() != 2 or x.stride(-1) != 1):
        x = x.contiguous()
    if out is None:
        out = torch.empty_like(x)
    ops.rms_norm(out, x, weight, eps)
    return out
