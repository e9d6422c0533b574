"""Right or wrong, by one rule for every device: no further from float64 than the model's own way of computing it is.

Each element may differ from the float64 oracle by twice the reference's largest error in that row plus a few units in
the last place; what is too small for a normal float32 may be 0, as fast arithmetic makes it. Over all cases of a
half-precision dtype, not many more elements may differ from the rounded oracle than the reference has: a value rounded
at another point, or summed in the short type, shows there and nowhere else.
"""

import inspect
from dataclasses import dataclass, field
from types import ModuleType

import torch
from cases import oracle_of

MANTISSA = {torch.float32: 23, torch.float16: 10, torch.bfloat16: 7, torch.float64: 52}
SMALLEST = {torch.float32: -149, torch.float16: -24, torch.bfloat16: -133, torch.float64: -1074}
UNITS = {
    torch.float32: 4,
    torch.float16: 1,
    torch.bfloat16: 1,
}  # in the last place; a chain in float32 has a few roundings
SUBNORMAL = torch.finfo(torch.float32).tiny
SHARE = 0.01  # of elements may differ from the rounded oracle, or twice the reference's share


def units(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """One unit in the last place of `dtype` at each value."""
    exponent = torch.frexp(values.abs()).exponent - 1 - MANTISSA[dtype]
    return torch.ldexp(torch.ones_like(values), exponent.clamp(min=SMALLEST[dtype]))


def many(value: torch.Tensor | tuple) -> list[torch.Tensor]:
    return list(value) if isinstance(value, tuple | list) else [value]


@dataclass
class Expected:
    exact: list[torch.Tensor]  # float64
    reference: list[torch.Tensor]  # in the outputs' dtypes
    large: list[
        torch.Tensor
    ]  # in whose units an error is measured: the result, or the larger numbers that cancel in it


def expect(truth: ModuleType, arguments: dict, outputs: dict[str, torch.Tensor], dtype: torch.dtype) -> Expected:
    """What the oracle and the reference say. Whole numbers stay whole."""
    types = [one.dtype for one in outputs.values()]
    exact = [one.double() if one.is_floating_point() else one for one in many(oracle_of(truth, arguments, dtype))]
    reference = [one.to(kind) for one, kind in zip(many(truth.reference(**arguments)), types, strict=True)]
    for one, made, (name, out) in zip(exact, reference, outputs.items(), strict=True):
        if one.shape != out.shape or made.shape != out.shape:
            raise ValueError(
                f"oracle.py disagrees with itself: {name} is {tuple(out.shape)}, the oracle gives {tuple(one.shape)}, "
                f"the reference {tuple(made.shape)}"
            )
    return Expected(exact, reference, magnitudes(truth, arguments, exact))


def magnitudes(truth: ModuleType, arguments: dict, exact: list[torch.Tensor]) -> list[torch.Tensor]:
    if not hasattr(truth, "magnitude"):
        return exact
    wide = {name: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for name, v in arguments.items()}
    pairs = zip(exact, many(truth.magnitude(**wide)), strict=True)
    return [torch.maximum(one.abs(), size.nan_to_num(0.0, posinf=0.0)) for one, size in pairs]


@dataclass
class Tally:
    """What all cases of one dtype on one device came to."""

    elements: int = 0
    differ: int = 0
    reference_differ: int = 0
    worst: float = 0.0  # largest error, as a multiple of what was allowed
    error: float = 0.0  # largest error over the tensor's largest value
    reference_error: float = 0.0

    def share(self) -> str | None:
        allowed = max(SHARE, 2 * self.reference_differ / max(self.elements, 1))
        if self.elements < 200 or self.differ / self.elements <= allowed:
            return None
        return (
            f"{self.differ / self.elements:.1%} of the elements differ from the rounded float64 result, "
            f"{self.reference_differ / self.elements:.1%} do in the reference: it rounds elsewhere or too soon"
        )


@dataclass
class Judge:
    truth: ModuleType
    truncated: tuple[torch.dtype, ...] = ()  # dtypes the device cuts instead of rounding: one unit more, no shares
    tallies: dict[torch.dtype, Tally] = field(default_factory=dict)

    def units(self, dtype: torch.dtype) -> int:
        inner = "rounded" in inspect.signature(self.truth.oracle).parameters  # that rounding may fall to the other side
        return UNITS[dtype] + inner + (dtype in self.truncated)

    def compare(self, got: list[torch.Tensor], expected: Expected, regular: bool = True) -> str | None:
        """None, or what is wrong. `regular` cases count for the shares."""
        told = zip(got, expected.exact, expected.reference, expected.large, strict=True)
        for number, (mine, exact, reference, large) in enumerate(told):
            wrong = self.one(mine, exact, reference, large, regular)
            if wrong:
                return wrong if len(got) == 1 else f"output {number + 1}: {wrong}"
        return None

    def one(self, mine, exact, reference, large: torch.Tensor, regular: bool) -> str | None:
        if mine.numel() == 0:
            return None
        if not mine.is_floating_point():
            unlike = (mine.long() != exact.long()).sum().item()
            return f"{unlike} of {mine.numel()} whole numbers differ" if unlike else None
        dtype, wide, told = mine.dtype, mine.double(), reference.double()
        nearest = exact.to(dtype)
        target = nearest.double()
        finite = torch.isfinite(target)
        alike = torch.where(finite, torch.isfinite(wide), same_class(wide, target)) | ~torch.isfinite(
            told
        ) & same_class(wide, told)
        if not bool(alike.all()):
            where = first(~alike)
            return f"{wide[where].item()} at {list(where)} where {target[where].item()} belongs"
        off = torch.where(finite, (told - exact).abs(), 0.0).nan_to_num(0.0, posinf=0.0)
        row = off.amax(-1, keepdim=True) if off.dim() > 1 else off.max()
        allowed = SUBNORMAL + 2 * row + self.units(dtype) * units(torch.where(finite, large, 0.0), dtype)
        error = torch.where(finite & torch.isfinite(wide), (wide - exact).abs(), 0.0)
        ratio = error / allowed.clamp(min=1e-300)
        tally = self.tallies.setdefault(dtype, Tally())
        tally.worst = max(tally.worst, ratio.max().item())
        largest = torch.where(finite, exact.abs(), 0.0).max().item() or 1.0
        tally.error = max(tally.error, error.max().item() / largest)
        tally.reference_error = max(tally.reference_error, off.max().item() / largest)
        if regular and dtype is not torch.float32 and dtype not in self.truncated:
            tally.elements += mine.numel()
            tally.differ += int((mine != nearest).sum())
            tally.reference_differ += int((reference != nearest).sum())
        if ratio.max().item() <= 1:
            return None
        where = first(ratio == ratio.max())
        wrong = (ratio > 1).sum().item()
        return (
            f"{wrong} of {mine.numel()} elements are off; worst at {list(where)}: {wide[where].item():.9g} where "
            f"{exact[where].item():.9g} belongs, {ratio.max().item():.3g} times what is allowed"
        )

    def shares(self) -> str | None:
        for dtype, tally in self.tallies.items():
            if said := tally.share():
                return f"{str(dtype).removeprefix('torch.')}: {said}"
        return None

    def numbers(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for dtype, tally in self.tallies.items():
            name = str(dtype).removeprefix("torch.")
            found[f"error_{name}"] = float(f"{tally.error:.3g}")
            found[f"reference_error_{name}"] = float(f"{tally.reference_error:.3g}")
            found[f"of_allowed_{name}"] = round(tally.worst, 3)
        return found


def same_class(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.isnan() & b.isnan()) | (a == b)


def first(mask: torch.Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero()[0].tolist()) if mask.dim() else ()
