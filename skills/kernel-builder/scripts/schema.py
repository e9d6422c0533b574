"""An op's schema, read once: which arguments are tensors, which are written, which are scalars.

`rms_norm(Tensor! out, Tensor x, Tensor weight, float eps) -> ()`: outputs come first and are marked, nothing is
returned, scalars come last. Glue, emulator shim and checks are made from this and from nothing else.
"""

import re
from dataclasses import dataclass

SCHEMA = re.compile(r"(?P<op>[a-z][a-z0-9_]*)\((?P<arguments>[^()]*)\) -> \(\)")
ARGUMENT = re.compile(r"(?P<type>Tensor!?|float|int|bool) (?P<name>[a-z][a-z0-9_]*)")
C_TYPES = {"float": "double", "int": "int64_t", "bool": "bool"}


@dataclass(frozen=True)
class Argument:
    name: str
    kind: str  # tensor, float, int or bool
    out: bool = False

    @property
    def c_type(self) -> str:
        return "View" if self.kind == "tensor" else C_TYPES[self.kind]


@dataclass(frozen=True)
class Schema:
    text: str
    op: str
    arguments: list[Argument]

    @property
    def tensors(self) -> list[Argument]:
        return [one for one in self.arguments if one.kind == "tensor"]

    @property
    def outputs(self) -> list[Argument]:
        return [one for one in self.arguments if one.out]

    @property
    def inputs(self) -> list[Argument]:
        """Everything that is not written: tensors and scalars."""
        return [one for one in self.arguments if not one.out]

    @property
    def scalars(self) -> list[Argument]:
        return [one for one in self.arguments if one.kind != "tensor"]


def parse(text: str) -> Schema:
    whole = SCHEMA.fullmatch(text.strip())
    if not whole:
        raise ValueError(f"'{text}' is no schema. Write name(Tensor! out, Tensor x, float eps) -> ()")
    arguments = []
    for piece in filter(None, (one.strip() for one in whole["arguments"].split(","))):
        found = ARGUMENT.fullmatch(piece)
        if not found:
            raise ValueError(f"'{piece}' is no argument. Types are Tensor!, Tensor, float, int and bool.")
        kind = "tensor" if found["type"].startswith("Tensor") else found["type"]
        arguments.append(Argument(found["name"], kind, found["type"].endswith("!")))
    order = [0 if one.out else 1 if one.kind == "tensor" else 2 for one in arguments]
    if order != sorted(order) or 0 not in order or len({one.name for one in arguments}) < len(arguments):
        raise ValueError("Arguments come in this order: outputs (Tensor!), tensors, scalars; each name once.")
    return Schema(text.strip(), whole["op"], arguments)
