"""silu(gate) * up in Triton: one program for a stretch of a row."""

import torch
import triton
import triton.language as tl

BLOCK = 1024
TYPES = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
def silu_mul_kernel(out, gate, up, out_stride, gate_stride, up_stride, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    values = tl.load(gate + row * gate_stride + columns, mask=inside, other=0.0)
    wide = values.to(tl.float32)
    silu = (wide / (1.0 + tl.exp(-wide))).to(values.dtype)  # rounded before the product, as the models do
    other = tl.load(up + row * up_stride + columns, mask=inside, other=0.0)
    result = silu.to(tl.float32) * other.to(tl.float32)
    tl.store(out + row * out_stride + columns, result.to(out.dtype.element_ty), mask=inside)


def launch(out: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> None:
    if {out.dtype, up.dtype} != {gate.dtype} or gate.dtype not in TYPES:
        raise ValueError("out, gate and up must have one dtype: float32, float16 or bfloat16")
    if not out.shape == gate.shape == up.shape:
        raise ValueError("out, gate and up must have one shape")
    if gate.numel() == 0:
        return
    width = gate.shape[-1]
    to, left, right = out.view(-1, width), dense(gate), dense(up)
    grid = (left.shape[0], triton.cdiv(width, BLOCK))
    silu_mul_kernel[grid](to, left, right, to.stride(0), left.stride(0), right.stride(0), width, BLOCK=BLOCK)


def dense(tensor: torch.Tensor) -> torch.Tensor:
    rows = tensor.reshape(-1, tensor.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def ahead_of_time(dtype: str, size: dict) -> list[dict]:
    """What to compile for a card that is not there: one entry a kernel."""
    signature = {name: f"*{dtype}" for name in ("out", "gate", "up")}
    signature |= {name: "i32" for name in ("out_stride", "gate_stride", "up_stride", "width")}
    divisible = [*signature] if size["D"] % 16 == 0 else []
    return [{"kernel": silu_mul_kernel, "signature": signature | {"BLOCK": "constexpr"}, "constants": {"BLOCK": BLOCK},
             "divisible": divisible, "warps": 4}]  # fmt: skip
