"""The case table: the oracle's own sizes and dtypes, and the variants that every op must survive, one for all devices.

Values are random with seeds nobody could know when the kernel was written. A variant changes how the tensors lie
(strided, not aligned), how large they are, or puts NaN and infinity in; `refusals` are calls that must be refused.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from arena import Arena, Place
from schema import Schema

SCALES = [1e-4, 1e3]


@dataclass
class Case:
    name: str
    dtype: torch.dtype
    arguments: dict[str, Any]
    regular: bool = True  # ordinary values: counts for shares
    strided: bool = False
    misaligned: int = 0
    may_refuse: bool = False
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)
    belongs: torch.Tensor | None = None  # the result, where the oracle's author gives it

    @property
    def elements(self) -> int:
        return numel(self.arguments)

    def lay(self, arena: Arena, schema: Schema) -> tuple[list[Place], list]:
        """Into shared memory, outputs poisoned: places in the order of the schema, and the scalars."""
        arena.clear()
        places = []
        for one in schema.tensors:
            tensor = self.outputs[one.name] if one.out else self.arguments[one.name]
            where = arena.room(tensor.shape, self.stride(tensor), tensor.dtype, self.misaligned)
            if one.out:
                arena.poison(where, tensor.dtype)
            elif tensor.numel():
                arena.view(where, tensor.dtype).copy_(tensor)
            places.append(where)
        return places, [self.arguments[one.name] for one in schema.scalars]

    def stride(self, tensor: torch.Tensor) -> tuple[int, ...]:
        """Dense, or rows that lie further apart than they are long."""
        if not self.strided or tensor.dim() < 2:
            return tensor.contiguous().stride()
        wider = [*tensor.shape[:-1], tensor.shape[-1] + 5]
        return torch.empty(wider, device="meta").stride()


def oracle_of(truth: ModuleType, arguments: dict[str, Any], dtype: torch.dtype) -> Any:
    """The oracle's answer in float64; `rounded`, for one that asks, gives what the tested dtype keeps on the way."""
    wide = {name: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for name, v in arguments.items()}
    if "rounded" in inspect.signature(truth.oracle).parameters:
        wide["rounded"] = lambda value: value.to(dtype).double()
    return truth.oracle(**wide)


def floating(value: Any) -> bool:
    return torch.is_tensor(value) and value.is_floating_point()


def numel(arguments: dict[str, Any]) -> int:
    return sum(v.numel() for v in arguments.values() if torch.is_tensor(v))


def table(truth: ModuleType, seed: int, dtypes: list[str] | None = None) -> Iterator[Case]:
    """All cases, the oracle's sizes first."""
    draw = torch.Generator().manual_seed(seed)
    for name in dtypes or truth.DTYPES:
        dtype = getattr(torch, name)
        for size in truth.SHAPES:
            yield made(truth, size, dtype, draw)
        yield from variants(truth, truth.SHAPES, dtype, draw)


def made(
    truth: ModuleType, size: dict, dtype: torch.dtype, draw: torch.Generator, scale: float = 1.0, tag: str = ""
) -> Case:
    arguments = truth.make(size, dtype, draw, scale)
    name = " ".join(
        [" ".join(f"{key}={value}" for key, value in size.items()), str(dtype).removeprefix("torch."), tag]
    ).strip()
    return Case(name, dtype, arguments, outputs=truth.empty(**arguments))


def variants(truth: ModuleType, sizes: list[dict], dtype: torch.dtype, draw: torch.Generator) -> Iterator[Case]:
    filled = [size for size in sizes if 0 not in size.values()]
    by_size = sorted(filled, key=lambda size: numel(truth.make(size, dtype, draw, 1.0)))
    if not by_size:
        return
    middle, large = by_size[len(by_size) // 2], by_size[-1]
    even = next(
        (size for size in reversed(by_size) if all(v % 32 == 0 for v in size.values() if isinstance(v, int) and v > 8)),
        large,
    )
    for scale in SCALES:
        for size in (middle, large):
            case = made(truth, size, dtype, draw, scale, f"scale {scale:g}")
            case.regular = False
            yield case
    for size in (middle, even):
        for tag, strided, misaligned in [
            ("strided", True, 0),
            ("unaligned", False, 1),
            ("strided and unaligned", True, 3),
        ]:
            case = made(truth, size, dtype, draw, tag=tag)
            case.strided, case.misaligned, case.may_refuse = strided, misaligned, True
            yield case
    for value in ("nan", "inf"):
        example = truth.make(middle, dtype, draw, 1.0)
        spared = getattr(truth, "FINITE", ()) if value == "inf" else ()
        for name in [key for key, v in example.items() if floating(v) and key not in spared]:
            case = made(truth, middle, dtype, draw, tag=f"{value} in {name}")
            flat = case.arguments[name].view(-1)
            flat[int(torch.randint(flat.numel(), (1,), generator=draw))] = float(value)
            case.regular = False
            yield case
    for tag, arguments, belongs in getattr(truth, "special", lambda **_: [])(**truth.make(middle, dtype, draw, 1.0)):
        name = f"{tag} {str(dtype).removeprefix('torch.')}"
        yield Case(name, dtype, arguments, regular=False, outputs=truth.empty(**arguments), belongs=belongs)
    case = made(truth, middle, dtype, draw, tag="zeros")
    for value in case.arguments.values():
        if floating(value):
            value.zero_()
    case.regular = False
    yield case


def refusals(truth: ModuleType, schema: Schema, seed: int) -> Iterator[Case]:
    """Calls that a kernel must answer with an error and not touch memory for."""
    draw = torch.Generator().manual_seed(seed)
    size = next(
        size
        for size in reversed(truth.SHAPES)
        if 0 not in size.values() and numel(truth.make(size, torch.float32, draw, 1.0)) < 20_000
    )
    dtype = getattr(torch, truth.DTYPES[0])
    plain = made(truth, size, dtype, draw)
    for one in schema.tensors:
        case = made(truth, size, dtype, draw, tag=f"{one.name} has a wrong dtype")
        held = case.outputs if one.out else case.arguments
        held[one.name] = held[one.name].to(torch.float64 if held[one.name].is_floating_point() else torch.uint8)
        yield case
    for one in schema.outputs:
        short = plain.outputs[one.name]
        case = made(truth, size, dtype, draw, tag=f"{one.name} is too short")
        case.outputs[one.name] = short[..., :-1].contiguous() if short.dim() and short.shape[-1] > 1 else short[:-1]
        yield case
    for tag, arguments in getattr(truth, "refused", lambda **_: [])(**plain.arguments):
        yield Case(tag, dtype, arguments, outputs=dict(plain.outputs))
