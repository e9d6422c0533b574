"""The GGUF container, version 3: writing and reading key-values and tensors. Shared by the scripts beside it."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC, VERSION, ALIGN = b"GGUF", 3, 32
U32, I32, F32_VALUE, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    U32: "<I",
    I32: "<i",
    F32_VALUE: "<f",
    BOOL: "<?",
    U64: "<Q",
    11: "<q",
    12: "<d",
}
# type of a tensor: its number, the file type that says "mostly this", weights and bytes a block
TYPES = {"f32": (0, 0, 1, 4), "f16": (1, 1, 1, 2), "q8_0": (8, 7, 32, 34), "bf16": (30, 32, 1, 2)}
OTHER_TYPES = {
    2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20), 6: ("q5_0", 32, 22), 7: ("q5_1", 32, 24), 10: ("q2_k", 256, 84),
    11: ("q3_k", 256, 110), 12: ("q4_k", 256, 144), 13: ("q5_k", 256, 176), 14: ("q6_k", 256, 210),
}  # fmt: skip
KNOWN = {number: (name, block, size) for name, (number, _, block, size) in TYPES.items()} | OTHER_TYPES


@dataclass(frozen=True)
class Tensor:
    """`shape` as numpy has it; GGUF writes it the other way round. `data` gives float32 when it is needed."""

    name: str
    shape: tuple[int, ...]
    type: str
    data: Callable[[], np.ndarray]

    @property
    def bytes(self) -> int:
        _, _, block, size = TYPES[self.type]
        return int(np.prod(self.shape)) // block * size


def coded(values: np.ndarray, kind: str) -> np.ndarray:
    """Float32 values as the bytes of a tensor type."""
    if kind == "f32":
        return values.astype("<f4")
    if kind == "f16":
        return values.astype("<f2")
    if kind == "bf16":  # round to nearest, ties to even
        bits = values.astype("<f4").view("<u4")
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    blocks = values.astype(np.float32).reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    scaled = blocks * inverse
    whole = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    return np.concatenate([scale.astype("<f2").view(np.uint8), whole.view(np.uint8)], axis=1)


def decoded(raw: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "f32":
        return raw.view("<f4").reshape(shape)
    if kind == "f16":
        return raw.view("<f2").astype(np.float32).reshape(shape)
    if kind == "bf16":
        return (raw.view("<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    blocks = raw.reshape(-1, 34)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return (blocks[:, 2:].copy().view(np.int8).astype(np.float32) * scale).reshape(shape)


# -- writing ---------------------------------------------------------------------------------------------------------


def write(path: Path, values: dict[str, tuple[int, Any]], tensors: list[Tensor]) -> None:
    """`values`: key to (type, value); a list is an array of that type. Whole or not at all."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.write(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(values)))
            for key, (kind, value) in values.items():
                file.write(text(key) + entry(kind, value))
            offset = 0
            for one in tensors:
                number = TYPES[one.type][0]
                dims = struct.pack(f"<I{len(one.shape)}Q", len(one.shape), *reversed(one.shape))
                file.write(text(one.name) + dims + struct.pack("<IQ", number, offset))
                offset += padded(one.bytes)
            pad(file)
            for one in tensors:
                file.write(coded(np.ascontiguousarray(one.data()), one.type).tobytes())
                pad(file)
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(kind: int, value: Any) -> bytes:
    if isinstance(value, list):
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(scalar(kind, one) for one in value)
    return struct.pack("<I", kind) + scalar(kind, value)


def scalar(kind: int, value: Any) -> bytes:
    return text(value) if kind == STRING else struct.pack(SCALARS[kind], value)


def padded(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def pad(file: BinaryIO) -> None:
    file.write(b"\0" * (padded(file.tell()) - file.tell()))


# -- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    values: dict[str, Any]
    tensors: dict[str, tuple[str, tuple[int, ...], int, int]]  # name: type, shape, start, bytes


def read(path: Path) -> Read:
    """Header and tensor table; ValueError when the file is no GGUF or is cut."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version, count, keys = unpack(file, "<IQQ")
        if version != VERSION:
            raise ValueError(f"it is version {version}; known is {VERSION}")
        values = {read_text(file): read_entry(file) for _ in range(keys)}
        table = [read_info(file) for _ in range(count)]
        start = padded(file.tell())
    tensors = {}
    for name, shape, number, offset in table:
        kind, block, bytes_ = KNOWN.get(number, (f"type {number}", 1, 0))
        length = int(np.prod(shape)) // block * bytes_
        if offset % ALIGN or start + offset + length > size:
            raise ValueError(f"the tensor {name} lies outside the file: it is cut or damaged")
        tensors[name] = (kind, shape, start + offset, length)
    return Read(values, tensors)


def read_info(file: BinaryIO) -> tuple[str, tuple[int, ...], int, int]:
    name = read_text(file)
    (dims,) = unpack(file, "<I")
    shape = tuple(reversed(unpack(file, f"<{dims}Q")))
    number, offset = unpack(file, "<IQ")
    return name, shape, number, offset


def unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    raw = file.read(struct.calcsize(form))
    if len(raw) < struct.calcsize(form):
        raise ValueError("it is cut in its header")
    return struct.unpack(form, raw)


def read_text(file: BinaryIO) -> str:
    (length,) = unpack(file, "<Q")
    if length > 64 * 2**20:
        raise ValueError("a text in its header is too long")
    return file.read(length).decode()


def read_entry(file: BinaryIO) -> Any:
    (kind,) = unpack(file, "<I")
    if kind != ARRAY:
        return read_scalar(file, kind)
    inner, length = unpack(file, "<IQ")
    return [read_scalar(file, inner) for _ in range(length)]


def read_scalar(file: BinaryIO, kind: int) -> Any:
    return read_text(file) if kind == STRING else unpack(file, SCALARS[kind])[0]


def contents(path: Path, found: Read) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of a type that can be decoded here, as float32."""
    raw = np.memmap(path, np.uint8, "r")
    for name, (kind, shape, start, length) in found.tensors.items():
        if kind in TYPES:
            yield name, decoded(np.asarray(raw[start : start + length]), kind, shape)
