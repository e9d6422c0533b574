"""LayerNorm as a function of torch tensors."""

import torch

from ._ops import add_op_namespace_prefix, ops


@torch.library.register_fake(add_op_namespace_prefix("layer_norm"))
def _(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> None:
    torch._check(out.shape == x.shape, lambda: "out must have the shape of x")
    torch._check(out.dtype == x.dtype == weight.dtype == bias.dtype, lambda: "all tensors must have one dtype")


def layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float = 1e-5, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension. No gradient."""
    if not x.is_contiguous() and (x.dim() != 2 or x.stride(-1) != 1):
        x = x.contiguous()
    if out is None:
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    ops.layer_norm(out, x, weight, bias, eps)
    return out
