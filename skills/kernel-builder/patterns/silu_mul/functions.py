"""silu(gate) * up as a function of torch tensors."""

import torch

from ._ops import add_op_namespace_prefix, ops


@torch.library.register_fake(add_op_namespace_prefix("silu_mul"))
def _(out: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> None:
    torch._check(out.shape == gate.shape == up.shape, lambda: "out, gate and up must have one shape")
    torch._check(out.dtype == gate.dtype == up.dtype, lambda: "out, gate and up must have one dtype")


def silu_mul(gate: torch.Tensor, up: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """`silu(gate) * up`, the middle of a SwiGLU layer. No gradient."""
    gate, up = (one if one.dim() == 2 and one.stride(-1) == 1 else one.contiguous() for one in (gate, up))
    if out is None:
        out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    ops.silu_mul(out, gate, up)
    return out
