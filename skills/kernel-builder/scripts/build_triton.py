# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "triton==3.7.1"]
# ///
"""The Triton sibling: its kernels compiled ahead of time for the target, which needs no card, and its package laid out.

The kernel file is imported by a process of its own. By itself it prints one JSON line.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import variant
from evidence import Record
from project import Project, load_module
from tools_here import run

LABEL = "compiled-only"
SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def build(project: Project, record: Record) -> None:
    if project.triton_source() is None:
        record.part("triton", "not_run", reason="the project has no triton_kernel.py")
        return
    variant.write(project, "torch-cuda", "cuda", None)
    card = project.spec["target"]
    if card["backend"] not in ("cuda", "rocm"):
        record.part("triton", "not_run", reason=f"Triton does not compile for {card['name']}")
        return
    cache = project.work("compile") / "triton"
    env = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache), "TRITON_ALWAYS_COMPILE": "1"}
    done = run(sys.executable, __file__, project.folder, env=env)
    if done.code:
        record.part(
            "triton", "fail", LABEL, done.text.strip().splitlines()[-1][:300] if done.text.strip() else "it died"
        )
        record.find("error", done.text[-2000:])
        return
    compiled = json.loads(done.text.strip().splitlines()[-1])
    if "not_run" in compiled:
        record.part("triton", "not_run", reason=compiled["not_run"])
        return
    record.numbers["triton"] = compiled
    spilled = [name for name, one in compiled.items() if one.get("spilled")]
    most = max(one.get("registers") or 0 for one in compiled.values())
    numbers = {"arch": card["arch"], "kernels": len(compiled), "most_registers": most}
    reason = f"spills: {', '.join(spilled)}" if spilled else ""
    record.part("triton", "fail" if spilled else "pass", LABEL, reason, **numbers)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project")
    given = parser.parse_args(argv)
    try:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError:
        print(json.dumps({"not_run": "triton is not installed here"}))
        return 0
    project = Project.open(given.project)
    source = project.triton_source()
    assert source is not None
    module = load_module("kernel", source)
    target = target_of(project.spec["target"], GPUTarget)
    told: dict[str, Any] = {}
    for dtype in project.spec["dtypes"]:
        for one in module.ahead_of_time(SHORT[dtype], project.spec["sizes"][0]["size"]):
            kernel = one["kernel"]
            names = list(one["signature"])
            attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in one["divisible"]}
            constants = {(names.index(name),): value for name, value in one["constants"].items()}
            ast = ASTSource(fn=kernel, signature=one["signature"], constexprs=constants, attrs=attributes)
            compiled = triton.compile(ast, target=target, options={"num_warps": one["warps"]})
            told[f"{kernel.__name__} {dtype}"] = {"warps": one["warps"], **read(compiled.asm, compiled.metadata)}
    print(json.dumps(told))
    return 0


def target_of(card: dict[str, Any], make: Any) -> Any:
    if card["backend"] == "rocm":
        return make("hip", card["arch"], 64)
    return make("cuda", int(re.sub(r"\D", "", card["arch"])), 32)


def read(asm: dict[str, Any], metadata: Any) -> dict[str, Any]:
    """Registers, spills and wide loads of the machine code, where a reader for it is here."""
    told: dict[str, Any] = {
        "shared_bytes": metadata.shared,
        "binary_bytes": len(asm.get("cubin") or asm.get("hsaco") or b""),
    }
    from tools_here import toolkit

    reader = toolkit("cuobjdump")
    if "cubin" not in asm or reader is None:
        return told
    path = Path(os.environ["TRITON_CACHE_DIR"]) / "looked_at.cubin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(asm["cubin"])
    usage = run(reader, "--dump-resource-usage", path).text
    sass = run(reader, "-sass", path).text
    registers, local = re.search(r"REG:(\d+)", usage), re.search(r"LOCAL:(\d+)", usage)
    told["registers"] = int(registers[1]) if registers else None
    told["spilled"] = int(local[1]) if local else 0
    told["wide_loads"] = len(re.findall(r"LDG\.E(?:\.\w+)*\.128", sass))
    return told


if __name__ == "__main__":
    sys.exit(main())
