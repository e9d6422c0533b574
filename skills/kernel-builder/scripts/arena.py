"""Memory that the judge and the kernel's process share: tensors lie in it as plain bytes, with guards between them.

The judge lays a case out, poisons the outputs and keeps a picture of every byte; `disturbed` then tells whether
anything but the outputs changed. Results are read from these bytes alone, never from an object of the kernel's process.
"""

import mmap
import os
from dataclasses import dataclass

import torch

DTYPES = {
    torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.int64: 3, torch.int32: 4, torch.float64: 5,
    torch.int8: 6, torch.uint8: 7, torch.bool: 7,
}  # fmt: skip
GUARD = 128
POISON = 0xFF  # NaN in every floating type, -1 in the whole numbers


@dataclass(frozen=True)
class Place:
    """Where a tensor lies; what the other process needs to find it."""

    offset: int
    dtype: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def told(self) -> dict:
        return {"offset": self.offset, "dtype": self.dtype, "shape": self.shape, "stride": self.stride}


class Arena:
    def __init__(self, size: int) -> None:
        self.size = size
        self.descriptor = os.memfd_create("kernel-arena", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, size)
        self.map = mmap.mmap(self.descriptor, size)
        self.bytes = torch.frombuffer(self.map, dtype=torch.uint8)
        self.used = 0

    def clear(self) -> None:
        self.used = 0

    def take(self, elements: int, dtype: torch.dtype, misaligned: int = 0) -> int:
        """The offset of room for that many elements, 64-byte aligned plus `misaligned` elements."""
        start = (self.used + GUARD + 63) // 64 * 64 + misaligned * dtype.itemsize
        self.used = start + elements * dtype.itemsize + GUARD
        if self.used > self.size:
            raise MemoryError(f"{self.used} bytes are wanted and the shared memory has {self.size}")
        return start

    def place(self, tensor: torch.Tensor, misaligned: int = 0) -> Place:
        """Copy a tensor in, strides and all."""
        where = self.room(tensor.shape, tensor.stride(), tensor.dtype, misaligned)
        self.view(where, tensor.dtype).copy_(tensor)
        return where

    def room(self, shape, stride, dtype: torch.dtype, misaligned: int = 0) -> Place:
        extent = 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        return Place(self.take(extent, dtype, misaligned), DTYPES[dtype], tuple(shape), tuple(stride))

    def view(self, where: Place, dtype: torch.dtype) -> torch.Tensor:
        """The tensor that lies there: a window on the shared bytes, no copy."""
        if 0 in where.shape:
            return torch.empty(where.shape, dtype=dtype)
        extent = 1 + sum((size - 1) * step for size, step in zip(where.shape, where.stride, strict=True))
        flat = torch.frombuffer(self.map, dtype=dtype, count=extent, offset=where.offset)
        return flat.as_strided(where.shape, where.stride)

    def poison(self, where: Place, dtype: torch.dtype) -> None:
        if 0 in where.shape:
            return
        whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
        self.view(where, whole).fill_(255 if whole is torch.uint8 else -1)

    def picture(self) -> torch.Tensor:
        return self.bytes[: self.used].clone()

    def disturbed(self, before: torch.Tensor) -> bool:
        """Whether a byte differs from the picture; call it after the outputs were poisoned again."""
        return not torch.equal(self.bytes[: before.numel()], before)
