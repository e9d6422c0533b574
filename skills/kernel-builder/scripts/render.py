"""The files of a project that follow from its spec: build files, glue from the schema, tests, card. Text in, text out.

Sources that a person or model wrote are copied as they are; everything here can be made again at any time.
"""

import json
import re
from pathlib import Path
from typing import Any

from project import COMMON, SKILL, Project

TEMPLATES = SKILL / "assets" / "project"
ISAS = {  # name: title, condition, target, bytes of a vector
    "generic": ("any CPU", "!defined(__aarch64__)", "", 16),
    "avx2": ("AVX2", "defined(__x86_64__)", "avx2,fma,f16c", 32),
    "avx512": ("AVX-512", "defined(__x86_64__)", "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c", 64),
    "neon": ("NEON", "defined(__aarch64__)", "", 16),
}
PYTHON_TYPES = {"tensor": "torch.Tensor", "float": "float", "int": "int", "bool": "bool"}
IGNORED = "build/\n.work/\nevidence/\n__pycache__/\n*.pyc\n"
LARGE = "*.so filter=lfs diff=lfs merge=lfs -text\n"
TO_HIP = [
    ("cuda_runtime.h", "hip/hip_runtime.h"), ("cuda_bf16.h", "hip/hip_bf16.h"), ("cuda_fp16.h", "hip/hip_fp16.h"),
    ("__nv_bfloat16", "__hip_bfloat16"), ("cudaStream_t", "hipStream_t"), ("device.cuh", "device.hip.h"),
    ("__shfl_xor_sync(0xffffffffu, value, offset)", "__shfl_xor(value, offset, 32)"),
]  # fmt: skip


def files(project: Project, sources: dict[str, Path]) -> dict[str, str]:
    """Every file of the project by its path in it, for those sources that are given."""
    op, py = project.op, project.py_name
    words = words_of(project)
    made = {".gitignore": IGNORED, ".gitattributes": LARGE, "tests/oracle.py": text(sources["oracle.py"])}
    for name in ("CARD.md", "example.py", "flake.nix"):
        made[name] = filled(name, words)
    made[f"tests/test_{op}.py"] = filled("test.py", words)
    made[f"benchmarks/benchmark_{op}.py"] = filled("benchmark.py", words | benchmarks(project, words))
    compiled = [kind for kind, file in (("cpu", "rows.h"), ("cuda", "kernel.cuh")) if file in sources]
    if compiled:
        made |= {f"torch-ext/{name}": filled(name, words) for name in ("torch_binding.h", "torch_binding.cpp")}
        made |= package(f"torch-ext/{py}", sources, words, [])
        made["build.toml"] = build_toml(project, compiled)
    if "cpu" in compiled:
        made |= cpu(project, sources, words)
    if "cuda" in compiled:
        made |= cuda(project, sources, words)
    if "triton_kernel.py" in sources:
        made |= triton(project, sources, words)
    return made


def cpu(project: Project, sources: dict[str, Path], words: dict[str, str]) -> dict[str, str]:
    folder = f"{project.op}_cpu"
    made = {f"{folder}/{name}": text(COMMON / name) for name in ("view.h", "vec.h")}
    made[f"{folder}/tensor_view.h"] = filled("tensor_view.h", words)
    made[f"{folder}/arguments.h"] = text(sources["arguments.h"])
    made[f"{folder}/{project.op}_rows.h"] = text(sources["rows.h"])
    made[f"{folder}/{project.op}_cpu.cpp"] = filled("cpu_glue.cpp", words)
    for name, (title, condition, target, width) in ISAS.items():
        pragma = f'#pragma GCC target("{target}")\n#define HAS_{name.upper()}' if target else ""
        told = {"ISA": name, "ISA_TITLE": title, "CONDITION": condition, "PRAGMA": pragma, "BYTES": str(width)}
        made[f"{folder}/{project.op}_{name}.cpp"] = re.sub(r"\n\n#define", "\n#define", filled("isa.cpp", words | told))
    return made


def cuda(project: Project, sources: dict[str, Path], words: dict[str, str]) -> dict[str, str]:
    """CUDA, and the same text for HIP by renaming: nothing here compiles that."""
    folder, op = f"{project.op}_cuda", project.op
    made = {f"{folder}/{name}": text(COMMON / name) for name in ("view.h", "device.cuh")}
    made[f"{folder}/tensor_view.h"] = filled("tensor_view.h", words)
    made[f"{folder}/arguments.h"] = text(sources["arguments.h"])
    made[f"{folder}/{op}_kernel.cuh"] = text(sources["kernel.cuh"])
    made[f"{folder}/{op}.cu"] = filled("cuda_glue.cu", words)
    for name, source in ((f"{op}_kernel.hip.h", sources["kernel.cuh"]), ("device.hip.h", COMMON / "device.cuh")):
        translated = text(source)
        for one, other in TO_HIP:
            translated = translated.replace(one, other)
        made[f"{op}_hip/{name}"] = translated
    made |= {f"{op}_hip/view.h": text(COMMON / "view.h"), f"{op}_hip/arguments.h": text(sources["arguments.h"])}
    return made


def triton(project: Project, sources: dict[str, Path], words: dict[str, str]) -> dict[str, str]:
    folder = f"triton/torch-ext/{project.py_name}_triton"
    made = package(folder, sources, words, ["registration"])
    made[f"{folder}/kernel.py"] = text(sources["triton_kernel.py"])
    made[f"{folder}/registration.py"] = filled("registration.py", words)
    made["triton/flake.nix"] = filled("flake.nix", words | {"NAME": f"{project.name}-triton"})
    made["triton/CARD.md"] = filled(
        "CARD.md", words | {"NAME": f"{project.name}-triton", "PY": words["PY"] + "_triton"}
    )
    made["triton/build.toml"] = general(project, f"{project.name}-triton", ["cuda", "rocm"]) + "\n[torch-noarch]\n"
    return made


def package(folder: str, sources: dict[str, Path], words: dict[str, str], first: list[str]) -> dict[str, str]:
    parts = [*first, *(["layers"] if "layers.py" in sources else [])]
    imports = [*([f"from . import {', '.join(sorted(parts))}"] if parts else [])]
    if first:  # the op must be registered before the functions look for it
        imports = [f"from . import {first[0]}  # isort: skip", *([f"from . import {parts[-1]}"] if parts[1:] else [])]
    imports.append(f"from .functions import {words['OP']}")
    listed = ", ".join(f'"{one}"' for one in [*(["layers"] if "layers.py" in sources else []), words["OP"]])
    made = {f"{folder}/__init__.py": filled("init.py", words | {"IMPORTS": "\n".join(imports), "ALL": listed})}
    made[f"{folder}/functions.py"] = text(sources["functions.py"])
    if "layers.py" in sources:
        made[f"{folder}/layers.py"] = text(sources["layers.py"])
    return made


def general(project: Project, name: str, backends: list[str]) -> str:
    listed = ", ".join(f'"{one}"' for one in backends)
    return (
        f'[general]\nname = "{name}"\nversion = {project.spec["version"]}\nlicense = "{project.spec["license"]}"\n'
        f"backends = [{listed}]\nedition = 5\n"
    )


def build_toml(project: Project, compiled: list[str]) -> str:
    """The compiled project. ROCm is listed only where it was asked for, since nothing here compiles it."""
    op = project.op
    rocm = project.spec["target"]["backend"] == "rocm" and "cuda" in compiled
    toml = general(project, project.name, [*compiled, *(["rocm"] if rocm else [])])
    toml += '\n[torch]\nsrc = ["torch-ext/torch_binding.cpp", "torch-ext/torch_binding.h"]\nstable-abi = "2.11"\n'
    listed = {
        "cpu": ["view.h", "vec.h", "tensor_view.h", "arguments.h", f"{op}_rows.h", f"{op}_cpu.cpp"]
        + [f"{op}_{isa}.cpp" for isa in ISAS],
        "cuda": ["view.h", "device.cuh", "tensor_view.h", "arguments.h", f"{op}_kernel.cuh", f"{op}.cu"],
    }
    for kind in [*compiled, *(["rocm"] if rocm else [])]:
        folder = f"{op}_{'cuda' if kind == 'rocm' else kind}"
        sources = "".join(f'\n  "{folder}/{name}",' for name in listed["cuda" if kind == "rocm" else kind])
        toml += f'\n[kernel.{op}_{kind}]\nbackend = "{kind}"\ndepends = ["torch"]\ninclude = ["{folder}"]\n'
        toml += f"src = [{sources}\n]\n"
        toml += f'rocm-archs = ["{project.spec["target"]["arch"]}"]\n' if kind == "rocm" else ""
    return toml


def words_of(project: Project) -> dict[str, str]:
    """What the templates' marks stand for."""
    schema, spec = project.schema, project.spec
    names = [one.name for one in schema.arguments]
    parameters = [
        f"torch::stable::Tensor {one.name}" if one.out
        else f"const torch::stable::Tensor& {one.name}" if one.kind == "tensor" else f"{one.c_type} {one.name}"
        for one in schema.arguments
    ]  # fmt: skip
    local = {one.name: f"{one.name}_view" if one.kind == "tensor" else one.name for one in schema.arguments}
    outputs = ", ".join(f'"{one.name}"' for one in schema.outputs)
    return {
        "OP": schema.op,
        "NAME": project.name,
        "PY": project.py_name,
        "TITLE": spec["title"],
        "FOR": f"for {spec['model']['id']} on {spec['target']['name']}"
        if spec["model"]
        else f"for {spec['target']['name']}",
        "SCHEMA": schema.text,
        "DTYPE": spec["dtype"],
        "LAYER_SENTENCE": f", `layers.{spec['layer']}` takes the place of a model's own module"
        if spec["layer"]
        else "",
        "CLASS": "".join(part.title() for part in schema.op.split("_")),
        "FIRST": schema.tensors[0].name,
        "PARAMETERS": ", ".join(parameters),
        "POINTERS": "&" + ", &".join(one.name for one in schema.tensors),
        "VIEWS": ", ".join(f"view_of({one.name})" if one.kind == "tensor" else one.name for one in schema.arguments),
        "TYPES": ", ".join(one.c_type for one in schema.arguments),
        "TYPED_NAMES": ", ".join(f"{one.c_type} {one.name}" for one in schema.arguments),
        "ARGUMENT_NAMES": ", ".join(names),
        "LOCALS": "  const View " + ", ".join(f"{one.name}_view = view_of({one.name})" for one in schema.tensors) + ";",
        "LOCAL_NAMES": ", ".join(local[name] for name in names),
        "PYTHON_PARAMETERS": ", ".join(f"{one.name}: {PYTHON_TYPES[one.kind]}" for one in schema.arguments),
        "OUTPUTS": outputs if len(schema.outputs) > 1 else f"{outputs},",
    }


def benchmarks(project: Project, words: dict[str, str]) -> dict[str, str]:
    sizes: dict[str, Any] = {}
    for one in project.spec["sizes"]:
        sizes.setdefault(one["phase"], one["size"])
    each = [filled("benchmark_one.py", words | {"PHASE": phase}) for phase in sizes]
    return {"SIZES": json.dumps(sizes), "BENCHMARKS": "\n".join(each).rstrip("\n")}


def filled(name: str, words: dict[str, str]) -> str:
    return re.sub(r"@([A-Z_]+)@", lambda mark: words[mark[1]], text(TEMPLATES / f"{name}.in"))


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
