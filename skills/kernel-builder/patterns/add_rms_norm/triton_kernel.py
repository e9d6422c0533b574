"""The residual addition with RMSNorm in Triton: one program a row; the block covers the row."""

import torch
import triton
import triton.language as tl

TYPES = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
def add_rms_norm_kernel(
    out,
    total,
    x,
    residual,
    weight,
    out_stride,
    total_stride,
    x_stride,
    residual_stride,
    width,
    eps,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    left = tl.load(x + row * x_stride + columns, mask=inside, other=0.0)
    right = tl.load(residual + row * residual_stride + columns, mask=inside, other=0.0)
    kept = (left.to(tl.float32) + right.to(tl.float32)).to(left.dtype)
    tl.store(total + row * total_stride + columns, kept, mask=inside)
    wide = kept.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    normal = (wide * scale).to(left.dtype)  # rounded before the weight, as the models do
    factor = tl.load(weight + columns, mask=inside, other=0.0)
    result = normal.to(tl.float32) * factor.to(tl.float32)
    tl.store(out + row * out_stride + columns, result.to(out.dtype.element_ty), mask=inside)


def launch(
    out: torch.Tensor, total: torch.Tensor, x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> None:
    width = x.shape[-1]
    if {out.dtype, total.dtype, residual.dtype, weight.dtype} != {x.dtype} or x.dtype not in TYPES:
        raise ValueError("all tensors must have one dtype: float32, float16 or bfloat16")
    if not out.shape == total.shape == residual.shape == x.shape or weight.shape != (width,):
        raise ValueError("out, total and residual must have the shape of x, and weight its width")
    if x.numel() == 0:
        return
    to, kept, left, right = out.view(-1, width), total.view(-1, width), dense(x), dense(residual)
    block = triton.next_power_of_2(width)
    add_rms_norm_kernel[(left.shape[0],)](
        to, kept, left, right, weight.contiguous(), to.stride(0), kept.stride(0), left.stride(0), right.stride(0),
        width, eps, BLOCK=block, num_warps=warps(block),
    )  # fmt: skip


def dense(tensor: torch.Tensor) -> torch.Tensor:
    rows = tensor.reshape(-1, tensor.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def warps(block: int) -> int:
    return 4 if block <= 1024 else 8 if block <= 4096 else 16


def ahead_of_time(dtype: str, size: dict) -> list[dict]:
    """What to compile for a card that is not there: one entry a kernel."""
    block = triton.next_power_of_2(size["D"])
    signature = {name: f"*{dtype}" for name in ("out", "total", "x", "residual", "weight")}
    signature |= {name: "i32" for name in ("out_stride", "total_stride", "x_stride", "residual_stride", "width")}
    divisible = [*signature] if size["D"] % 16 == 0 else []
    return [{"kernel": add_rms_norm_kernel, "signature": signature | {"eps": "fp32", "BLOCK": "constexpr"},
             "constants": {"BLOCK": block}, "divisible": divisible, "warps": warps(block)}]  # fmt: skip
