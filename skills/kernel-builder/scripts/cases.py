"""The oracle's answer for a call: arguments in float64, and `rounded` for what the tested dtype keeps on the way."""

import inspect
from types import ModuleType
from typing import Any

import torch


def oracle_of(truth: ModuleType, arguments: dict[str, Any], dtype: torch.dtype) -> Any:
    wide = {name: widened(value) for name, value in arguments.items()}
    if "rounded" in inspect.signature(truth.oracle).parameters:
        wide["rounded"] = lambda value: value.to(dtype).double()
    return truth.oracle(**wide)


def widened(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
