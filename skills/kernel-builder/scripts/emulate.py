"""Turns torch-free kernel sources into a library with one C function, `run`, for a process without torch.

CUDA C++ is rewritten as text for the emulator's header and compiled by the host's compiler; rows.h stays as it is.
Both look for misaligned access and, by the address sanitizer or guard pages, for steps outside a tensor. What the
emulator does not know raises NotCovered.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from schema import Schema

EMULATOR = Path(__file__).resolve().parent.parent / "emulator"
UNDEFINED = ["-fsanitize=alignment,bounds", "-fno-sanitize-recover=alignment,bounds"]
ADDRESS = ["-fsanitize=address"]
ASAN = "detect_leaks=0:halt_on_error=1:exitcode=77:detect_stack_use_after_return=0:allocator_may_return_null=1"
UNKNOWN = {  # found in a source, the emulator would not tell the truth
    r"\basm\b": "inline PTX",
    r"cooperative_groups|\bcg::": "cooperative groups",
    r"cp_async|__pipeline_|cuda::pipeline|cuda::barrier|memcpy_async": "asynchronous copies",
    r"nvcuda::wmma|\bmma\.h|wgmma|tcgen05": "tensor cores",
    r"cudaLaunchKernelEx|__cluster_dims__": "clusters and extended launches",
    r"\btex(?:1D|2D|3D)|cudaTextureObject_t": "textures",
    r"\bcub::|\bthrust::|\bcutlass::|\bcute::": "device libraries (cub, thrust, CUTLASS)",
}
SHARED = re.compile(
    r"(?P<extern>extern\s+)?__shared__\s+(?:__align__\(\s*\d+\s*\)\s*|alignas\([^)]*\)\s*)?(?P<type>[\w:<>,\s]+?)\s*\b"
    r"(?P<name>\w+)\s*(?P<dims>(?:\[[^\[\]]*\]\s*)*);"
)


class NotCovered(Exception):
    """The source is beyond the emulator; says by what."""


class DoesNotCompile(Exception):
    """The host's compiler refuses the source; carries its first errors."""


def headers() -> Path:
    """CUDA's own headers for bf16, fp16 and vector types: the toolkit's, else those inside the triton wheel."""
    homes = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"]
    found = importlib.util.find_spec("triton")
    if found and found.submodule_search_locations:
        homes.append(Path(found.submodule_search_locations[0]) / "backends/nvidia/include")
    for home in homes:
        if (home / "cuda_bf16.h").exists() and (home / "vector_types.h").exists():
            return home
    raise NotCovered("CUDA's headers are not here. Install the CUDA toolkit, or triton, which brings them.")


def cpu_flags() -> set[str]:
    told = Path("/proc/cpuinfo")
    text = told.read_text(encoding="utf-8", errors="replace") if told.exists() else ""
    return set(text.partition("flags\t\t:")[2].partition("\n")[0].split())


@cache
def sanitized() -> dict[str, str] | None:
    """The environment in which a library with the address sanitizer loads; None where it cannot reserve its memory."""
    asked = [compiler(), "-print-file-name=libasan.so"]
    library = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    env = {"LD_PRELOAD": library, "ASAN_OPTIONS": ASAN}
    if not Path(library).is_absolute():
        return None
    probe = [sys.executable, "-I", "-c", "pass"]
    return env if subprocess.run(probe, env=env, capture_output=True, check=False).returncode == 0 else None


def compiler() -> str:
    found = shutil.which(os.environ.get("CXX", "g++"))
    if not found:
        raise NotCovered("there is no C++ compiler. Install g++.")
    return found


def rewrite(source: str, races: bool = True) -> str:
    """CUDA C++ as the emulator's header understands it. Line numbers stay. `races` watches shared arrays."""
    bare = without_comments(source)
    for pattern, what in UNKNOWN.items():
        if re.search(pattern, bare):
            raise NotCovered(f"the source uses {what}, which the emulator does not know")
    watched = re.sub(SHARED, lambda match: shared(match, races), bare)
    if "__shared__" in watched:
        raise NotCovered("a __shared__ declaration that the emulator cannot read")
    return launches(watched)


def without_comments(source: str) -> str:
    keep = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.S)
    return keep.sub(lambda m: m[0] if m[0].startswith('"') else "\n" * m[0].count("\n"), source)


def shared(match: re.Match[str], races: bool) -> str:
    kind, name = match["type"].strip(), match["name"]
    dims = re.findall(r"\[([^\[\]]*)\]", match["dims"])
    lines = "\n" * match[0].count("\n")
    if match["extern"]:
        return f"{kind}* {name} = reinterpret_cast<{kind}*>(emu::dynamic_shared());{lines}"
    if not races or len(dims) > 2:
        return f"static {kind} {name}{match['dims']};{lines}"
    sizes = ", ".join(f"static_cast<size_t>({dim})" for dim in dims or ["1"])
    plain = f'static emu::Shared<{kind}, {sizes}> {name}{"_one" if not dims else ""}("{name}");{lines}'
    return plain if dims else f"{plain} const auto {name} = {name}_one[0];"


def launches(source: str) -> str:
    """`k<T><<<grid, block, bytes, stream>>>(a)` becomes `emu::launch(grid, block, bytes, [=] { k<T>(a); })`."""
    while (at := source.find("<<<")) >= 0:
        begin = callee(source, at)
        end = source.find(">>>", at)
        if end < 0:
            raise NotCovered("a launch without an end")
        settings = split(source[at + 3 : end])
        opening = source.index("(", end)
        closing = matching(source, opening)
        dynamic = settings[2] if len(settings) > 2 else "0"
        call = source[begin:at].rstrip() + source[opening : closing + 1]
        source = (
            source[:begin]
            + f"emu::launch(dim3({settings[0]}), dim3({settings[1]}), {dynamic}, [=] {{ {call}; }})"
            + source[closing + 1 :]
        )
    return source


def callee(source: str, at: int) -> int:
    """Where the name of the launched kernel begins, template arguments and namespaces included."""
    i = at - 1
    while source[i].isspace():
        i -= 1
    if source[i] == ">":
        depth = 0
        while True:
            depth += (source[i] == ">") - (source[i] == "<")
            if depth == 0:
                break
            i -= 1
        i -= 1
    while i >= 0 and (source[i].isalnum() or source[i] in "_:"):
        i -= 1
    return i + 1


def matching(source: str, opening: int) -> int:
    depth = 0
    for i in range(opening, len(source)):
        depth += (source[i] == "(") - (source[i] == ")")
        if depth == 0:
            return i
    raise NotCovered("a launch whose arguments do not end")


def split(text: str) -> list[str]:
    parts, depth, last = [], 0, 0
    for i, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(text[last:i].strip())
            last = i + 1
    return [*parts, text[last:].strip()]


ROWS = """
const char* rows({typed}) {{
  if (const char* why = refuse({names})) return why;
  ISA::run({names}, 0, pieces({names}));
  return nullptr;
}}
"""


def shim(schema: Schema, emulated: bool) -> str:
    count = len(schema.tensors)
    real = {"float": "scalars[{}].real", "int": "scalars[{}].whole", "bool": "scalars[{}].whole != 0"}
    arguments = [f"view({i})" for i in range(count)]
    arguments += [real[one.kind].format(i) for i, one in enumerate(schema.scalars)]
    told = ", ".join(arguments)
    call = f"launch({told}, nullptr)" if emulated else f"rows({told})"
    failure = (
        'if (emu::machine().failed) said = std::string("EMULATOR: ") + emu::machine().failure;' if emulated else ""
    )
    reset = "emu::machine().failed = false; emu::machine().allowed_dynamic = emu::kPlainShared; " if emulated else ""
    rows = ROWS.format(
        names=", ".join(one.name for one in schema.arguments),
        typed=", ".join(f"{one.c_type} {one.name}" for one in schema.arguments),
    )
    return f"""
#include "guarded.h"
namespace {{
std::string said;
{"" if emulated else rows}
}}
extern "C" const char* run(const View* tensors, const int64_t* elements, const Scalar* scalars) {{
  {reset}
  const std::vector<guarded::Tensor*> all = guarded::copies(tensors, elements, {count});
  const auto view = [&](int i) {{ return all[i]->view; }};
  const char* refused = {call};
  said = refused ? refused : "";
  {failure}
  const char* broken = guarded::back(all, tensors);
  if (said.empty() && broken) said = broken;
  return said.c_str();
}}
"""


def build_cuda(
    source: Path, schema: Schema, work: Path, instead: dict[str, str] | None = None, address: bool = False
) -> tuple[Path, list[str]]:
    """The library that emulates `source`, and remarks: what could not be watched.

    `instead` replaces files by name; `address` builds the address sanitizer in, which needs `sanitized()` to be loaded.
    """
    beside = texts(source.parent, "*.h", "*.cuh") | (instead or {})
    flags = ["-isystem", str(headers()), *(ADDRESS if address else [])]
    try:
        return compile_shared(beside, source.name, shim(schema, True), flags, work, rewrite), []
    except DoesNotCompile:
        plain = lambda one: rewrite(one, races=False)  # noqa: E731
        library = compile_shared(beside, source.name, shim(schema, True), flags, work, plain)
        return library, ["shared arrays are passed on as pointers: races on them are not watched"]


ONE_TYPE = re.compile(r"^.*if \(dtype == (?:F16|BF16)\) f\(.*$", re.M)


def only_float(texts: dict[str, str]) -> dict[str, str]:
    """Sources whose switch over types knows float32 alone: a third of the compiler's time, for mutants."""
    return {name: ONE_TYPE.sub("", text) for name, text in texts.items()}


def build_rows(
    source: Path, schema: Schema, work: Path, instead: dict[str, str] | None = None, address: bool = False
) -> Path:
    """The CPU's row functions under the sanitizers, on one thread, with vectors of 32 bytes."""
    flags = ["-DISA=checked", "-DVECTOR_BYTES=32", *(ADDRESS if address else [])]
    if {"avx2", "fma", "f16c"} <= cpu_flags():
        flags += ["-mavx2", "-mfma", "-mf16c", "-DHAS_AVX2"]
    beside = texts(source.parent, "*.h") | (instead or {})
    return compile_shared(beside, source.name, shim(schema, False), flags, work, lambda one: one)


def texts(folder: Path, *kinds: str) -> dict[str, str]:
    return {one.name: one.read_text(encoding="utf-8") for kind in kinds for one in folder.glob(kind)}


def compile_shared(beside: dict[str, str], main: str, tail: str, flags: list[str], work: Path, change) -> Path:
    """Same sources, same library: what was compiled once is taken again."""
    changed = {name: change(text) for name, text in beside.items()}
    changed["shim.cpp"] = f'#include "{main}"\n{tail}'
    told = (
        repr(sorted(changed.items())) + repr(flags) + "".join(one.read_text() for one in sorted(EMULATOR.glob("*.h")))
    )
    folder = work / hashlib.sha256(told.encode()).hexdigest()[:16]
    library = folder / "kernel.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in changed.items():
        (folder / name).write_text(text, encoding="utf-8")
    command = [compiler(), "-std=c++20", "-O1", "-g1", "-w", "-fPIC", "-shared", *UNDEFINED]
    command += ["-I", str(folder), "-I", str(EMULATOR), *flags]
    command += ["-o", str(folder / "fresh.so"), str(folder / "shim.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line][:5]
        raise DoesNotCompile("\n".join(errors) or done.stderr[-1000:])
    (folder / "fresh.so").replace(library)
    return library
