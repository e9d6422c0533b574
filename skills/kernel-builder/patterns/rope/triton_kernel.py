"""Rotary position embedding in Triton: one program a head, its two halves turned together."""

import torch
import triton
import triton.language as tl

TYPES = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
def rope_kernel(out, x, cos, sin, out_stride, x_stride, cos_stride, sin_stride, heads, half, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    token = row // heads
    left = tl.arange(0, BLOCK)
    inside = left < half
    right = left + half
    a = tl.load(x + row * x_stride + left, mask=inside, other=0.0)
    b = tl.load(x + row * x_stride + right, mask=inside, other=0.0)
    cos_left = tl.load(cos + token * cos_stride + left, mask=inside, other=0.0).to(tl.float32)
    cos_right = tl.load(cos + token * cos_stride + right, mask=inside, other=0.0).to(tl.float32)
    sin_left = tl.load(sin + token * sin_stride + left, mask=inside, other=0.0).to(tl.float32)
    sin_right = tl.load(sin + token * sin_stride + right, mask=inside, other=0.0).to(tl.float32)
    # products are rounded before they are added, as the models do
    kept_a = (a.to(tl.float32) * cos_left).to(a.dtype).to(tl.float32)
    kept_b = (b.to(tl.float32) * cos_right).to(a.dtype).to(tl.float32)
    crossed_a = (b.to(tl.float32) * -sin_left).to(a.dtype).to(tl.float32)
    crossed_b = (a.to(tl.float32) * sin_right).to(a.dtype).to(tl.float32)
    to = out + row * out_stride
    tl.store(to + left, (kept_a + crossed_a).to(out.dtype.element_ty), mask=inside)
    tl.store(to + right, (kept_b + crossed_b).to(out.dtype.element_ty), mask=inside)


def launch(out: torch.Tensor, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    if {out.dtype, cos.dtype, sin.dtype} != {x.dtype} or x.dtype not in TYPES:
        raise ValueError("all tensors must have one dtype: float32, float16 or bfloat16")
    if x.dim() != 3 or out.shape != x.shape or x.shape[2] % 2:
        raise ValueError("x and out must be (tokens, heads, D), D even")
    if not cos.shape == sin.shape == (x.shape[0], x.shape[2]):
        raise ValueError("cos and sin must be (tokens, D) of x")
    if x.numel() == 0:
        return
    tokens, heads, width = x.shape
    to, rows, turn, lift = out.view(-1, width), dense(x), dense(cos), dense(sin)
    rope_kernel[(tokens * heads,)](
        to, rows, turn, lift, to.stride(0), rows.stride(0), turn.stride(0), lift.stride(0), heads, width // 2,
        BLOCK=triton.next_power_of_2(width // 2), num_warps=1,
    )  # fmt: skip


def dense(tensor: torch.Tensor) -> torch.Tensor:
    rows = tensor.reshape(-1, tensor.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def ahead_of_time(dtype: str, size: dict) -> list[dict]:
    """What to compile for a card that is not there: one entry a kernel."""
    signature = {name: f"*{dtype}" for name in ("out", "x", "cos", "sin")}
    strides = ("out_stride", "x_stride", "cos_stride", "sin_stride")
    signature |= {name: "i32" for name in (*strides, "heads", "half")}
    divisible = ["out", "x", "cos", "sin", *strides, "half"] if size["D"] % 32 == 0 else []
    return [{"kernel": rope_kernel, "signature": signature | {"BLOCK": "constexpr"}, "warps": 1,
             "constants": {"BLOCK": triton.next_power_of_2(size["D"] // 2)}, "divisible": divisible}]  # fmt: skip
