# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "transformers==5.22.2", "kernels==0.17.2"]
# ///
"""The fresh process of load.py: loads the build through the kernels package and counts what it replaces.

Prints one line of JSON: the checks and what each gave.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from project import Project

MARGIN = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project")
    parser.add_argument("backend", choices=["cpu", "cuda"])
    given = parser.parse_args(argv)
    project, backend = Project.open(given.project), given.backend
    os.environ["LOCAL_KERNELS"] = f"local/{project.name}={project.folder}"
    print(
        json.dumps(
            {"get_local_kernel": by_path(project, backend), **by_name(project, backend), **in_a_model(project, backend)}
        )
    )
    return 0


def by_path(project: Project, backend: str) -> dict[str, Any]:
    from kernels import get_loaded_kernels, get_local_kernel

    kernel = get_local_kernel(project.folder, backend=backend)
    public = sorted(getattr(kernel, "__all__", []))
    if project.op not in public:
        return {"status": "fail", "reason": f"{project.op} is not in __all__: {public}"}
    got = call(project, kernel, backend)
    loaded = [str(one.metadata.id) for one in get_loaded_kernels()]
    return {"status": "pass" if got < 1 else "fail", "public": public, "id": loaded[-1], "error_over_margin": got}


def call(project: Project, kernel: Any, backend: str) -> float:
    """The public function on one small size: its largest difference from the reference, in margins."""
    import torch

    truth = project.truth()
    dtype = project.spec["dtype"]
    size = truth.SHAPES[-1]
    made = truth.make(size, getattr(torch, dtype), torch.Generator().manual_seed(1))
    device = "cuda" if backend == "cuda" else "cpu"
    given = {name: one.to(device) if isinstance(one, torch.Tensor) else one for name, one in made.items()}
    results, expected = getattr(kernel, project.op)(**given), truth.reference(**given)
    pairs = zip(*(one if isinstance(one, tuple) else (one,) for one in (results, expected)), strict=True)
    worst = 0.0
    for got, wanted in pairs:
        allowed = MARGIN[dtype] * max(1.0, float(wanted.float().abs().max()))
        worst = max(worst, float((got.float() - wanted.float()).abs().max()) / allowed)
    return worst


def by_name(project: Project, backend: str) -> dict[str, Any]:
    """As a program would ask the Hub, with LOCAL_KERNELS pointing here."""
    from kernels import get_kernel

    kernel = get_kernel(f"local/{project.name}", version=1, backend=backend)
    return {"LOCAL_KERNELS": {"status": "pass" if hasattr(kernel, project.op) else "fail"}}


def in_a_model(project: Project, backend: str) -> dict[str, Any]:
    """kernelize on two layers of the architecture: replaced, called and expected must be one number."""
    model_of = project.spec["model"]
    layer = project.spec["layer"]
    if not layer or not model_of or not model_of["expected"]:
        return {"layers": {"status": "not_run", "reason": "the spec names no model with modules to replace"}}
    import torch
    from models import small
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small(model_of["config"])).eval()
    model = randomised(model).to("cuda" if backend == "cuda" else "cpu")
    classes = {one["class"] for one in model_of["modules"]}
    targets = [one for one in model.modules() if type(one).__name__ in classes]
    ids = torch.arange(12, device=model.device).reshape(1, 12)
    with torch.no_grad():
        before = model(ids).logits
        kernelize(model, targets, layer, project.folder, backend)
        with Count(project.op) as count:
            after = model(ids).logits
        tokens = [int(one.argmax()) for one in (before[0, -1], after[0, -1])]
    replaced = sum("forward" in vars(one) for one in targets)
    difference = float((before - after).abs().max() / before.abs().max())
    told = {"expected": len(targets), "replaced": replaced, "called": count.calls, "relative_difference": difference}
    right = replaced == len(targets) == count.calls and tokens[0] == tokens[1] and difference < 1e-3
    reason = (
        "" if right else f"expected {len(targets)} replaced, {replaced} were and {count.calls} ran; tokens {tokens}"
    )
    return {
        "layers": {"status": "pass" if right else "fail", "reason": reason, **told, "whole_model": model_of["expected"]}
    }


def randomised(model: Any) -> Any:
    """Norm weights start as ones, which would hide a kernel that forgets them."""
    import torch

    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5) if "weight" in name else torch.nn.init.uniform_(
                parameter, -0.5, 0.5
            )
    return model


def kernelize(model: Any, targets: list[Any], layer: str, folder: Path, backend: str) -> None:
    import kernels

    for cls in {type(one) for one in targets}:
        if getattr(cls, "kernel_layer_name", None) != layer:
            kernels.replace_kernel_forward_from_hub(cls, layer)
    mapping = {layer: {backend: kernels.LocalLayerRepository(folder, layer_name=layer)}}
    with kernels.use_kernel_mapping(mapping, inherit_mapping=False):
        kernels.kernelize(model, mode=kernels.Mode.INFERENCE, device=backend)


class Count:
    """How often the op really ran, whatever is said about replaced modules."""

    def __init__(self, op: str):
        from torch.utils._python_dispatch import TorchDispatchMode

        counter = self
        self.calls = 0

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                counter.calls += function._schema.name.endswith(f"::{op}")
                return function(*args, **(kwargs or {}))

        self.mode = Mode()

    def __enter__(self) -> "Count":
        self.mode.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self.mode.__exit__(*problem)


if __name__ == "__main__":
    sys.exit(main())
