"""Softmax as a function of torch tensors."""

import torch

from ._ops import add_op_namespace_prefix, ops


@torch.library.register_fake(add_op_namespace_prefix("softmax"))
def _(out: torch.Tensor, x: torch.Tensor) -> None:
    torch._check(out.shape == x.shape, lambda: "out must have the shape of x")
    torch._check(out.dtype == x.dtype, lambda: "out must have the dtype of x")


def softmax(x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """`exp(x) / sum(exp(x))` over the last dimension. No gradient."""
    if not x.is_contiguous() and (x.dim() != 2 or x.stride(-1) != 1):
        x = x.contiguous()
    if out is None:
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    ops.softmax(out, x)
    return out
