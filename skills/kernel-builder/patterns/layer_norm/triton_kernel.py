"""LayerNorm in Triton: one program a row; the block covers the row, so nothing is read twice."""

import torch
import triton
import triton.language as tl

TYPES = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
def layer_norm_kernel(out, x, weight, bias, out_stride, x_stride, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    values = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    away = tl.where(inside, values - tl.sum(values, axis=0) / width, 0.0)
    scale = tl.rsqrt(tl.sum(away * away, axis=0) / width + eps)
    factor = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    added = tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    result = away * scale * factor + added
    tl.store(out + row * out_stride + columns, result.to(out.dtype.element_ty), mask=inside)


def launch(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> None:
    width = x.shape[-1]
    if {out.dtype, weight.dtype, bias.dtype} != {x.dtype} or x.dtype not in TYPES:
        raise ValueError("out, x, weight and bias must have one dtype: float32, float16 or bfloat16")
    if out.shape != x.shape or weight.shape != (width,) or bias.shape != (width,):
        raise ValueError("out must have the shape of x, weight and bias its width")
    if x.numel() == 0:
        return
    rows, to = x.reshape(-1, width), out.view(-1, width)
    if rows.stride(-1) != 1 and width > 1:
        rows = rows.contiguous()
    block = triton.next_power_of_2(width)
    layer_norm_kernel[(rows.shape[0],)](
        to, rows, weight.contiguous(), bias.contiguous(), to.stride(0), rows.stride(0), width, eps,
        BLOCK=block, num_warps=warps(block),
    )  # fmt: skip


def warps(block: int) -> int:
    return 4 if block <= 1024 else 8 if block <= 4096 else 16


def ahead_of_time(dtype: str, size: dict) -> list[dict]:
    """What to compile for a card that is not there: one entry a kernel."""
    block = triton.next_power_of_2(size["D"])
    signature = {"out": f"*{dtype}", "x": f"*{dtype}", "weight": f"*{dtype}", "bias": f"*{dtype}", "out_stride": "i32",
                 "x_stride": "i32", "width": "i32", "eps": "fp32", "BLOCK": "constexpr"}  # fmt: skip
    divisible = ["out", "x", "weight", "bias", "out_stride", "x_stride", "width"] if size["D"] % 16 == 0 else []
    return [{"kernel": layer_norm_kernel, "signature": signature, "constants": {"BLOCK": block},
             "divisible": divisible, "warps": warps(block)}]  # fmt: skip
