"""Which tools there are: their signatures as the model sees them, their risk, and the check of what comes back.

A tool is a function in `tools/` marked with its risk; a new area is one more line in MODULES. Signature, types and
documentation are read from the function and written nowhere twice.
"""

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from tools.context import ToolError
from tools.declare import Declaration, Stake, declaration

MODULES = [
    *("tools.hub", "tools.papers", "tools.docs", "tools.spaces"),
    *("tools.datasets", "tools.planning", "tools.training", "tools.preflight", "tools.runs", "tools.reports"),
    "tools.kernels",
]


@dataclass(frozen=True)
class Tool:
    name: str
    function: Callable[..., Any]
    declared: Declaration

    @property
    def risk(self) -> str:
        return self.declared.risk

    @cached_property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def summary(self) -> str:
        """The first line of its documentation."""
        return self.doc.partition("\n")[0]

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    def signature_text(self) -> str:
        """`name(a: str, b: int = 3)`, as the prompt shows it."""
        shown = [shape(parameter) for parameter in self.parameters()]
        return f"{self.name}({', '.join(shown)})"

    def call_text(self) -> str:
        """The same in fewer words, for the prompt: what a default says is not said twice."""
        return f"{self.name}({', '.join(short(parameter) for parameter in self.parameters())})"

    def parameters(self) -> list[dict[str, Any]]:
        """Name, type as text and default, in order; plain data for the stub."""
        hints = typing.get_type_hints(self.function)
        found = []
        for parameter in self.signature.parameters.values():
            told: dict[str, Any] = {"name": parameter.name, "type": type_text(hints.get(parameter.name, Any))}
            if parameter.default is not inspect.Parameter.empty:
                told["default"] = parameter.default
            found.append(told)
        return found

    @cached_property
    def model(self) -> Any:
        hints = typing.get_type_hints(self.function)
        fields = {
            p.name: (hints.get(p.name, Any), ... if p.default is inspect.Parameter.empty else p.default)
            for p in self.signature.parameters.values()
        }
        return create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)  # type: ignore[call-overload]

    def check(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments in the types of the signature, or a ToolError that says which one is wrong."""
        try:
            checked = self.model(**arguments)
        except ValidationError as error:
            raise ToolError(f"{self.explain(error)} It is {self.signature_text()}") from None
        except TypeError as error:
            raise ToolError(f"{self.name}: {error}. It is {self.signature_text()}") from None
        return {name: getattr(checked, name) for name in arguments}

    def explain(self, error: ValidationError) -> str:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, self.signature.parameters, 1)
            return f"{self.name} has no argument '{name}'." + (f" Did you mean '{near[0]}'?" if near else "")
        if first["type"] == "missing":
            return f"{self.name} needs the argument '{name}'."
        return f"{self.name}: '{name}' is wrong: {first['msg']}."

    def stake(self, arguments: dict[str, Any]) -> Stake:
        if self.declared.stake:
            return self.declared.stake(**arguments)
        unknown = None if self.risk == "paid" else 0.0
        return Stake(what=f"{self.name} {brief(arguments)}".strip(), usd=unknown, usd_max=unknown)

    def told(self) -> dict[str, Any]:
        """What the stub in the sandbox is made of."""
        doc = f"{self.doc}\n\nRuns on the host; risk: {self.risk}."
        return {"name": self.name, "parameters": self.parameters(), "doc": doc}


def shape(parameter: dict[str, Any]) -> str:
    default = f" = {parameter['default']!r}" if "default" in parameter else ""
    return f"{parameter['name']}: {parameter['type']}{default}"


def short(parameter: dict[str, Any]) -> str:
    """`b=3` for `b: int = 3`, `c: str = None` for `c: str | None = None`."""
    default = parameter.get("default")
    if "default" in parameter and default is None:
        return f"{parameter['name']}: {parameter['type'].removesuffix(' | None')} = None"
    if "default" in parameter and parameter["type"] == type(default).__name__:
        return f"{parameter['name']}={default!r}"
    return shape(parameter)


def type_text(hint: Any) -> str:
    """A type as a person writes it: choices as their values, alternatives with a bar."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " | ".join(map(repr, inside))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(type_text, inside))
    if isinstance(hint, type) and not inside:
        return "None" if hint is type(None) else hint.__name__
    return str(hint).replace("typing.", "").replace("NoneType", "None")


def brief(arguments: dict[str, Any], most: int = 160) -> str:
    text = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return text if len(text) <= most else text[: most - 1] + "…"


def load(modules: list[str] | None = None) -> dict[str, Tool]:
    """All tools by name. Two of one name are a mistake of ours and fail at once."""
    tools: dict[str, Tool] = {}
    for module_name in MODULES if modules is None else modules:
        module = importlib.import_module(module_name)
        for name, function in vars(module).items():
            declared = declaration(function)
            if declared is None or function.__module__ != module_name:
                continue
            if name in tools:
                raise ValueError(f"two tools are called {name}")
            tools[name] = Tool(name, function, declared)
    return tools
