# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0"]
# ///
"""Load a CUDA library of a project where there is no GPU, and send fake tensors through its op.

Proves that the library loads, that its schema is the project's and that the fake is registered; no kernel runs. Part of
the compile state, in a process of its own.
"""

import argparse
import ctypes
import json
import sys
from pathlib import Path

from project import Project


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project")
    parser.add_argument("library")
    parser.add_argument("stand_in", nargs="?", help="a library with the one function a CPU build of torch lacks")
    given = parser.parse_args(argv)
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    project = Project.open(given.project)
    if given.stand_in:
        ctypes.CDLL(given.stand_in, mode=ctypes.RTLD_GLOBAL)
    torch.ops.load_library(given.library)
    name = Path(given.library).name.partition(".")[0]
    op = getattr(getattr(torch.ops, name), project.op)
    truth = project.truth()
    functions = {"add_op_namespace_prefix": lambda one: f"{name}::{one}", "ops": getattr(torch.ops, name)}
    text = (project.folder / "torch-ext" / project.py_name / "functions.py").read_text(encoding="utf-8")
    exec(text.replace("from ._ops import", "from _ops import"), with_ops(functions))
    shapes = {}
    with FakeTensorMode():
        for dtype in truth.DTYPES:
            size = project.spec["sizes"][0]["size"]
            with torch.device("cuda"):
                arguments = truth.make(size, getattr(torch, dtype), None)
                outputs = truth.empty(**arguments)
            op(*outputs.values(), *arguments.values())
            shapes[dtype] = [list(one.shape) for one in outputs.values()]
    schema = str(op.default._schema).partition("::")[2]
    print(json.dumps({"schema": schema, "fake_shapes": shapes}))
    return 0


def with_ops(names: dict) -> dict:
    module = type(sys)("_ops")
    vars(module).update(names)
    sys.modules["_ops"] = module
    return {"__name__": "functions"}


if __name__ == "__main__":
    sys.exit(main())
