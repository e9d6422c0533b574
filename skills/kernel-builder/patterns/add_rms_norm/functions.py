"""The residual addition with RMSNorm as a function of torch tensors."""

import torch

from ._ops import add_op_namespace_prefix, ops


@torch.library.register_fake(add_op_namespace_prefix("add_rms_norm"))
def _(
    out: torch.Tensor, total: torch.Tensor, x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> None:
    torch._check(out.shape == total.shape == x.shape == residual.shape, lambda: "all but weight must have one shape")
    torch._check(out.dtype == total.dtype == x.dtype == residual.dtype, lambda: "all tensors must have one dtype")


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """`total = x + residual`, rounded, and its RMSNorm: (norm, total). No gradient."""
    x, residual = (one if one.dim() == 2 and one.stride(-1) == 1 else one.contiguous() for one in (x, residual))
    out, total = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(2))
    ops.add_rms_norm(out, total, x, residual, weight, eps)
    return out, total
