"""A product with an 8-bit weight as a function of torch tensors."""

import torch

from ._ops import add_op_namespace_prefix, ops


@torch.library.register_fake(add_op_namespace_prefix("gemv_q8"))
def _(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> None:
    torch._check(x.shape[1] == weight.shape[1], lambda: "x must be as wide as weight")
    torch._check(out.shape[1] == weight.shape[0], lambda: "out must be (rows of x, rows of weight)")


def gemv_q8(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`x @ (weight * scale).T` for a few rows of x; weight int8, a scale for each group of columns. No gradient."""
    x, weight, scale = (one if one.stride(-1) == 1 else one.contiguous() for one in (x, weight, scale))
    out = torch.empty(x.shape[0], weight.shape[0], dtype=x.dtype, device=x.device)
    ops.gemv_q8(out, x, weight, scale)
    return out
