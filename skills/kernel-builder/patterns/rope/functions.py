"""Rotary position embedding as a function of torch tensors."""

import torch

from ._ops import add_op_namespace_prefix, ops


@torch.library.register_fake(add_op_namespace_prefix("rope"))
def _(out: torch.Tensor, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    torch._check(out.shape == x.shape, lambda: "out must have the shape of x")
    torch._check(out.dtype == x.dtype == cos.dtype == sin.dtype, lambda: "all tensors must have one dtype")


def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Turns the halves of each head: x is (tokens, heads, D), cos and sin are (tokens, D). No gradient."""
    x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
    if out is None:
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    ops.rope(out, x, cos, sin)
    return out
