"""What the Hub forbids in a kernel project, found by reading its files. Nothing is run."""

import ast
import re
import tomllib
from pathlib import Path

FORBIDDEN_TEXT = {
    r"\bpybind11\b|\bPYBIND11_MODULE\b": "pybind11: bind with STABLE_TORCH_LIBRARY_EXPAND",
    r"torch/extension\.h": "torch/extension.h: it brings pybind11; include torch/csrc/stable",
    r"(?<!_)\bTORCH_LIBRARY(_IMPL)?\(\s*(?!TORCH_EXTENSION_NAME)": "TORCH_LIBRARY with a fixed name: use _EXPAND",
    r"\bPyInit_\w+": "a hand-written PyInit: REGISTER_EXTENSION makes it",
}
PYTHON_DEPENDS = {"einops", "helion", "tvm_ffi"}
ALLOWED = PYTHON_DEPENDS | {"torch", "triton", "__future__"}
STANDARD = {"math", "typing", "functools", "dataclasses", "collections", "enum", "itertools", "os", "warnings"}
LAYER_MEMBERS = {"has_backward", "can_torch_compile"}
SHIPPED = ("torch-ext", "triton/torch-ext")


def violations(folder: Path, py_name: str) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if inside.parts[0] in (".git", ".work", "build", "evidence") or not path.is_file():
            continue
        if path.suffix in (".cpp", ".cu", ".cuh", ".h"):
            source = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{inside}: {why}" for what, why in FORBIDDEN_TEXT.items() if re.search(what, source)]
        if path.suffix == ".py" and str(inside).startswith(SHIPPED):
            found += [f"{inside}:{line}" for line in of_python(path, py_name)]
    return found


def of_python(path: Path, py_name: str) -> list[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        return [f"{error.lineno}: this is not Python: {error.msg}"]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [f"{node.lineno}: {why}" for one in node.names if (why := of_import(one.name, py_name))]
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (why := of_import(node.module or "", py_name)):
            found.append(f"{node.lineno}: {why}")
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "torch.ops":
            found.append(
                f"{node.lineno}: {ast.unparse(node)}: the op's namespace changes with every build, use _ops.ops"
            )
        if isinstance(node, ast.Call):
            found += [f"{node.lineno}: {why}" for why in of_registration(node)]
    if path.name == "layers.py":
        found += of_layers(tree)
    return found


def of_import(name: str, py_name: str) -> str:
    top = name.split(".")[0]
    if top in (py_name, f"{py_name}_triton"):
        return f"import {name}: a kernel imports itself relatively"
    if name.startswith("torch.utils.cpp_extension"):
        return "cpp_extension compiles at import; the Hub ships what was built"
    return (
        "" if top in ALLOWED | STANDARD else f"import {name}: only torch, triton, {', '.join(sorted(PYTHON_DEPENDS))}"
    )


def of_registration(node: ast.Call) -> list[str]:
    """torch.library functions name an op: by add_op_namespace_prefix, or it would clash with every other build."""
    called = ast.unparse(node.func)
    names = ("register_fake", "custom_op", "register_autograd", "register_kernel", "triton_op", "impl")
    if not re.fullmatch(rf"(torch\.)?(library\.)?({'|'.join(names)})", called) or not node.args:
        return []
    first = node.args[0]
    plain = isinstance(first, ast.Constant) and isinstance(first.value, str)
    return [f"{called} names its op itself: wrap it in add_op_namespace_prefix"] if plain else []


def of_layers(tree: ast.Module) -> list[str]:
    found = []
    for node in (one for one in tree.body if isinstance(one, ast.ClassDef)):
        for member in node.body:
            name = None
            if isinstance(member, ast.FunctionDef) and member.name != "forward":
                name = member.name
            if isinstance(member, ast.Assign):
                name = next((ast.unparse(one) for one in member.targets if ast.unparse(one) not in LAYER_MEMBERS), None)
            if isinstance(member, ast.AnnAssign) and member.value is not None:
                name = ast.unparse(member.target)
            if name:
                found.append(
                    f"{member.lineno}: {node.name}.{name}: a layer has only forward, has_backward, can_torch_compile"
                )
    return found


def of_build_toml(path: Path) -> list[str]:
    """What the upstream parser does not look at: that sources exist and every backend has a kernel."""
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    folder, found = path.parent, []
    kernels = told.get("kernel", {})
    named = [
        *told.get("torch", {}).get("src", []),
        *(one for kernel in kernels.values() for one in kernel.get("src", [])),
    ]
    found += [f"build.toml names {one}, which is not there" for one in named if not (folder / one).is_file()]
    compiled = "torch" in told
    have = {kernel.get("backend") for kernel in kernels.values()}
    found += [f"backend {one} has no [kernel.*]" for one in told["general"]["backends"] if compiled and one not in have]
    return found
