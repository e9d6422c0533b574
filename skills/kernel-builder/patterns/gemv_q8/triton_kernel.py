"""Product with an 8-bit weight in Triton: one program for some rows of the weight and one row of x, group by group."""

import torch
import triton
import triton.language as tl

BLOCK_N = 16
TYPES = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
def gemv_q8_kernel(
    out, x, weight, scale, out_stride, x_stride, weight_stride, scale_stride, n, groups, group,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1).to(tl.int64)
    present = rows < n
    inner = tl.arange(0, BLOCK_K)
    inside = inner < group
    total = tl.zeros((BLOCK_N,), tl.float32)
    for g in range(0, groups):
        columns = g * group + inner
        values = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
        at = weight + rows[:, None].to(tl.int64) * weight_stride + columns[None, :]
        weights = tl.load(at, mask=present[:, None] & inside[None, :], other=0).to(tl.float32)
        factor = tl.load(scale + rows.to(tl.int64) * scale_stride + g, mask=present, other=0.0).to(tl.float32)
        total += tl.sum(weights * values[None, :], axis=1) * factor
    tl.store(out + row * out_stride + rows, total.to(out.dtype.element_ty), mask=present)


def launch(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> None:
    if {out.dtype, scale.dtype} != {x.dtype} or x.dtype not in TYPES or weight.dtype != torch.int8:
        raise ValueError("out, x and scale must have one dtype: float32, float16 or bfloat16; weight must be int8")
    if x.dim() != 2 or weight.dim() != 2 or scale.dim() != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError("x must be as wide as weight")
    (n, k), groups = weight.shape, scale.shape[1]
    if out.shape != (x.shape[0], n) or scale.shape[0] != n or groups == 0 or k % groups:
        raise ValueError("out must be (rows of x, rows of weight), scale (rows of weight, groups)")
    if out.numel() == 0:
        return
    x, weight, scale = (one if one.stride(-1) == 1 else one.contiguous() for one in (x, weight, scale))
    gemv_q8_kernel[(triton.cdiv(n, BLOCK_N), x.shape[0])](
        out, x, weight, scale, out.stride(0), x.stride(0), weight.stride(0), scale.stride(0), n, groups, k // groups,
        BLOCK_N=BLOCK_N, BLOCK_K=triton.next_power_of_2(k // groups),
    )  # fmt: skip


def ahead_of_time(dtype: str, size: dict) -> list[dict]:
    """What to compile for a card that is not there: one entry a kernel."""
    signature = {"out": f"*{dtype}", "x": f"*{dtype}", "weight": "*i8", "scale": f"*{dtype}"}
    signature |= {f"{name}_stride": "i32" for name in ("out", "x", "weight", "scale")}
    signature |= {"n": "i32", "groups": "i32", "group": "i32", "BLOCK_N": "constexpr", "BLOCK_K": "constexpr"}
    divisible = ["out", "x", "weight", "scale", "x_stride", "weight_stride", "group"] if size["group"] % 16 == 0 else []
    constants = {"BLOCK_N": BLOCK_N, "BLOCK_K": triton.next_power_of_2(size["group"])}
    return [{"kernel": gemv_q8_kernel, "signature": signature, "constants": constants,
             "divisible": divisible, "warps": 4}]  # fmt: skip
