"""The CUDA build as far as it goes without a GPU: a cubin for every architecture, its registers, spills and loads; the
glue, the link, and a load under fake tensors. With a CUDA build of torch the same makes a variant that runs.
"""

import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import variant
from build_cpu import LABEL, flags
from evidence import Record
from libraries import outside_stable_abi
from project import Project
from tools_here import ABI_NAME, Outcome, cuda_home, cxx, nvcc, nvcc_archs, python_include, toolkit, torch_home

from tools_here import platform_name, run  # isort: skip


INSTANCES = '#include "{op}_kernel.cuh"\n\nvoid* keep() {{ return reinterpret_cast<void*>(&launch); }}\n'
ENTRY = re.compile(r"Compiling entry function '(\w+)'")
SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
WIDE = {"load": re.compile(r"\bLDG\.E(\.\w+)*\.128"), "store": re.compile(r"\bSTG\.E(\.\w+)*\.128")}
LOCAL = re.compile(r"\b(LDL|STL)\b")
C_TYPES = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}
STREAM = "int aoti_torch_get_current_cuda_stream(int device, void** stream) { *stream = 0; return 0; }\n"


def build(project: Project, record: Record) -> None:
    if project.cuda_source() is None:
        record.part("cuda", "not_run", reason="the project has no kernel.cuh")
        return
    archs = nvcc_archs()
    if not archs:
        record.part("cuda", "not_run", reason="nvcc is not installed here")
        return
    wanted = project.spec["target"]["arch"]
    if wanted.startswith("sm_") and wanted not in archs:
        record.part(f"cuda {wanted}", "not_run", reason=f"this nvcc does not know {wanted}")
    folder = project.work("compile") / "cuda"
    folder.mkdir(exist_ok=True)
    (folder / "instances.cu").write_text(INSTANCES.format(op=project.op), encoding="utf-8")
    truth = project.truth()
    first = wanted if wanted in archs else archs[-1]
    told = {first: cubin(project, folder, first, truth)}
    if said := told[first].get("said"):  # the same mistake would be told for each of them
        record.part(f"cuda {first}", "fail", LABEL, told[first]["wrong"][0])
        record.find("error", said[-3000:])
        record.part("cuda, the others", "not_run", reason="the source does not compile")
        return
    others = [one for one in archs if one != first]
    with ThreadPoolExecutor(2) as pool:
        told |= dict(zip(others, pool.map(lambda one: cubin(project, folder, one, truth), others), strict=True))
    for arch in archs:
        one = told[arch]
        status = "fail" if one["wrong"] else "pass"
        record.part(f"cuda {arch}", status, LABEL, "; ".join(one["wrong"]), **one["numbers"])
    record.numbers["cubins"] = {arch: told[arch]["kernels"] for arch in archs}
    if any(one["wrong"] for one in told.values()):
        record.part("cuda glue", "not_run", reason="the kernel itself does not compile as it must")
    else:
        glue(project, record, wanted if wanted in archs else "sm_90")


def cubin(project: Project, folder: Path, arch: str, truth: ModuleType) -> dict[str, Any]:
    """Compile for one architecture and read what came out."""
    target = folder / f"{arch}.cubin"
    include = project.folder / f"{project.op}_cuda"
    done = run(
        nvcc() or "nvcc", "-std=c++20", "-O3", f"-arch={arch}", "-Xptxas", "-v", "-cubin", "-I", include,
        folder / "instances.cu", "-o", target,
    )  # fmt: skip
    if done.code:
        return {"wrong": [done.first_error], "numbers": {}, "kernels": {}, "said": done.text}
    kernels = resources(done.text)
    wrong = [f"{readable(name)} spills {one['spilled']} bytes" for name, one in kernels.items() if one["spilled"]]
    wrong += [] if kernels else ["there is no __global__ function in it"]
    numbers: dict[str, Any] = {"kernels": len(kernels)}
    if kernels:
        numbers["most_registers"] = max(one["registers"] for one in kernels.values())
    if (reader := toolkit("cuobjdump")) is None:
        numbers["sass"] = "not read: no cuobjdump"
        return {"wrong": wrong, "numbers": numbers, "kernels": kernels}
    for name, lines in functions(run(reader, "-sass", target).text).items():
        one = kernels.setdefault(name, {})
        one |= {f"wide_{kind}s": sum(bool(mark.search(line)) for line in lines) for kind, mark in WIDE.items()}
        if any(LOCAL.search(line) for line in lines):
            wrong.append(f"{readable(name)} keeps values in local memory")
    wrong += narrow(kernels, truth)
    numbers["with_128_bit_loads"] = sum(bool(one.get("wide_loads")) for one in kernels.values())
    return {"wrong": wrong, "numbers": numbers, "kernels": kernels}


def resources(text: str) -> dict[str, dict[str, Any]]:
    """ptxas' own report by mangled name."""
    found: dict[str, dict[str, Any]] = {}
    name = ""
    for line in text.splitlines():
        if entry := ENTRY.search(line):
            name = entry[1]
            found[name] = {"registers": 0, "spilled": 0}
        elif name and (spill := SPILL.search(line)):
            found[name]["spilled"] = int(spill[2]) + int(spill[3])
        elif name and (used := REGISTERS.search(line)):
            found[name]["registers"] = int(used[1])
    return found


def readable(name: str) -> str:
    """Without its arguments, and as it stands in the source where c++filt is here."""
    return (
        run("c++filt", name).text.partition("(")[0].removeprefix("void ").strip() if shutil.which("c++filt") else name
    )


def functions(sass: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in sass.splitlines():
        if "Function :" in line:
            name = line.rpartition(":")[2].strip()
            found[name] = []
        elif name:
            found[name].append(line)
    return found


def narrow(kernels: dict[str, dict[str, Any]], truth: ModuleType) -> list[str]:
    """Each dtype must have an instance that moves 16 bytes at once, unless the op's oracle says it cannot."""
    kinds = getattr(truth, "VECTOR", ["load", "store"])
    wrong = []
    for dtype in truth.DTYPES:
        mark = {"float32": r"kernelIf|kernelI?\w*f", "float16": "6__half", "bfloat16": "13__nv_bfloat16"}[dtype]
        of_type = [one for name, one in kernels.items() if re.search(mark, name)]
        for kind in kinds:
            if of_type and not any(one.get(f"wide_{kind}s") for one in of_type):
                wrong.append(f"no 128-bit {kind} for {dtype}")
    return wrong


def glue(project: Project, record: Record, arch: str) -> None:
    """The stable-ABI glue and binding for one architecture, the link, and what the library still needs."""
    if cxx() is None or python_include() is None:
        record.part("cuda glue", "not_run", reason="g++ or Python.h (python3-dev) is missing here")
        return
    folder = project.work("compile") / "cuda"
    common = flags(project, "cuda")
    real = gpu_torch()
    archs = sorted({arch, *([device_arch()] if real else [])})
    codes = [word for one in archs for word in ("-gencode", f"arch={one.replace('sm', 'compute')},code={one}")]
    library = folder / f"{variant.namespace(project, 'cuda')}.abi3.so"
    include, binding = project.folder / f"{project.op}_cuda", project.folder / "torch-ext" / "torch_binding.cpp"
    device = [nvcc(), *common, *codes, "-Xcompiler", "-fPIC", "-I", include, "-c", project.cuda_glue()]
    host = [cxx(), *common, "-fPIC", "-fvisibility=hidden", "-c", binding]
    steps = [[*device, "-o", folder / "glue.o"], [*host, "-o", folder / "binding.o"]]
    with ThreadPoolExecutor(2) as pool:
        outcomes: list[Outcome] = list(pool.map(lambda words: run(*words), steps))
    cuda = "-ltorch_cuda" if (torch_home() / "lib" / "libtorch_cuda.so").exists() else "-ltorch"
    if not any(one.code for one in outcomes):
        objects = [folder / "glue.o", folder / "binding.o"]
        needed = ["-L", torch_home() / "lib", "-ltorch", "-ltorch_cpu", "-lc10", cuda, "-cudart", "shared"]
        outcomes.append(run(nvcc() or "nvcc", "-shared", *objects, "-o", library, *needed))
    if failed := [one for one in outcomes if one.code]:
        record.part("cuda glue", "fail", LABEL, failed[0].first_error)
        record.find("error", failed[0].text[-3000:])
        return
    unstable = outside_stable_abi(library)
    wrong = f"needs what is not in the stable ABI: {', '.join(unstable[:3])}" if unstable else ""
    record.part(
        "cuda glue", "fail" if wrong else "pass", LABEL, wrong, archs=archs, kilobytes=library.stat().st_size // 1024
    )
    if wrong:
        return
    if real:
        variant.write(project, f"{ABI_NAME}-cu{cuda_version()}-{platform_name()}", "cuda", library)
    fake_load(project, record, library)


def fake_load(project: Project, record: Record, library: Path) -> None:
    """In a process of its own: the schema is registered, and fake CUDA tensors go through the op."""
    folder = library.parent
    words: list[str | Path] = [sys.executable, Path(__file__).parent / "fake_load.py", project.folder, library]
    if not gpu_torch():  # a CPU build of torch lacks exactly this one function
        (folder / "stream.c").write_text(STREAM, encoding="utf-8")
        stand_in = folder / "stream.so"
        run(cxx() or "g++", "-x", "c", "-shared", "-fPIC", folder / "stream.c", "-o", stand_in)
        words.append(stand_in)
    home = cuda_home()
    done = run(*words, env={"LD_LIBRARY_PATH": f"{home}/lib64" if home else ""}, limit=120)
    told = json.loads(done.text.strip().splitlines()[-1]) if not done.code else {}
    record.part("cuda fake load", "fail" if done.code else "pass", LABEL, done.first_error if done.code else "", **told)
    if done.code:
        record.find("error", done.text[-2000:])


def gpu_torch() -> bool:
    import torch

    return torch.version.cuda is not None and torch.cuda.is_available()


def device_arch() -> str:
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def cuda_version() -> str:
    import torch

    return (torch.version.cuda or "").replace(".", "")
