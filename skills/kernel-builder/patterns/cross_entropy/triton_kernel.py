"""Cross-entropy in Triton: one program a row, one pass over the logits, maximum and sum of powers carried together."""

import torch
import triton
import triton.language as tl

BLOCK = 4096
TYPES = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
def cross_entropy_kernel(loss, logits, labels, stride, ignore, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels + row)
    from_ = logits + row * stride
    most = tl.full((), -float("inf"), tl.float32)
    total = tl.full((), 0.0, tl.float32)
    for start in range(0, width, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        values = tl.load(from_ + columns, mask=columns < width, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(most, tl.max(values, axis=0))
        base = tl.where(higher == -float("inf"), 0.0, higher)
        total = total * tl.exp(most - base) + tl.sum(tl.exp(values - base), axis=0)
        most = higher
    valid = (label >= 0) & (label < width)
    own = tl.load(from_ + tl.where(valid, label, 0)).to(tl.float32)
    result = tl.where(valid, tl.log(total) - (own - most), float("nan"))
    tl.store(loss + row, tl.where(label == ignore, 0.0, result))


def launch(loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, ignore: int) -> None:
    if logits.dtype not in TYPES or loss.dtype != torch.float32 or labels.dtype != torch.int64:
        raise ValueError("logits must be float32, float16 or bfloat16, loss float32, labels int64")
    if logits.dim() != 2 or not loss.shape == labels.shape == logits.shape[:1]:
        raise ValueError("logits must be (rows, classes), loss and labels (rows)")
    if logits.numel() == 0:
        return
    rows = logits if logits.stride(-1) == 1 else logits.contiguous()
    block = min(BLOCK, triton.next_power_of_2(rows.shape[1]))
    cross_entropy_kernel[(rows.shape[0],)](loss, rows, labels, rows.stride(0), ignore, rows.shape[1], BLOCK=block)


def ahead_of_time(dtype: str, size: dict) -> list[dict]:
    """What to compile for a card that is not there: one entry a kernel."""
    signature = {"loss": "*fp32", "logits": f"*{dtype}", "labels": "*i64", "stride": "i32", "ignore": "i32",
                 "width": "i32", "BLOCK": "constexpr"}  # fmt: skip
    divisible = ["loss", "logits", "labels", "stride", "width"] if size["D"] % 16 == 0 else []
    block = min(BLOCK, triton.next_power_of_2(size["D"]))
    return [{"kernel": cross_entropy_kernel, "signature": signature, "constants": {"BLOCK": block},
             "divisible": divisible, "warps": 8}]  # fmt: skip
