"""A build in the layout the Hub has, build/<variant>/: the package, its ops module, the library, metadata with digest.

What is made here is a development build: it loads like a real one and is never fit to be published, because only
kernel-builder's own builds run on every machine the Hub promises.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from project import Project

OPS = '''"""Made with the build: the namespace of this build's ops."""

import torch
{load}
ops = torch.ops.{name}


def add_op_namespace_prefix(op_name: str) -> str:
    return f"{name}::{{op_name}}"
'''
REGISTRATION = """// Made with the build: the op library has the build's name; the shared object is an empty module.
#pragma once

#include <Python.h>

#define STABLE_TORCH_LIBRARY_EXPAND(NAME, MODULE) STABLE_TORCH_LIBRARY(NAME, MODULE)
#define STABLE_TORCH_LIBRARY_IMPL_EXPAND(NAME, KEY, MODULE) STABLE_TORCH_LIBRARY_IMPL(NAME, KEY, MODULE)
#define BUILD_TEXT_(NAME) #NAME
#define BUILD_TEXT(NAME) BUILD_TEXT_(NAME)
#define BUILD_INIT_(NAME) PyInit_##NAME
#define BUILD_INIT(NAME) BUILD_INIT_(NAME)
#define REGISTER_EXTENSION(NAME)                                                 \\
  PyMODINIT_FUNC BUILD_INIT(NAME)() {                                            \\
    static struct PyModuleDef module = {                                         \\
        PyModuleDef_HEAD_INIT, BUILD_TEXT(NAME), nullptr, 0, nullptr};           \\
    return PyModule_Create(&module);                                             \\
  }
"""


def namespace(project: Project, backend: str, triton: bool = False) -> str:
    return f"_{project.py_name}{'_triton' if triton else ''}_{backend}_{project.tree_hash()}"


def write(project: Project, name: str, backend: str, library: Path | None) -> Path:
    """Lay out a variant of that name; without a library it is the sibling in Triton."""
    triton = library is None
    top = project.folder / "triton" if triton else project.folder
    py_name = project.py_name + ("_triton" if triton else "")
    own = namespace(project, backend, triton)
    target = top / "build" / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(top / "torch-ext" / py_name, target, ignore=shutil.ignore_patterns("__pycache__"))
    load = ""
    if library is not None:
        shutil.copy2(library, target / library.name)
        load = f"\nfrom . import {own}  # noqa: F401\n"
    (target / "_ops.py").write_text(OPS.format(load=load, name=own), encoding="utf-8")
    describe(project, target, py_name, backend, own)
    return target


def describe(project: Project, target: Path, py_name: str, backend: str, own: str) -> None:
    """metadata.json as the loader reads it; the digest covers every other file."""
    told: dict[str, Any] = {
        "id": own,
        "name": py_name.replace("_", "-"),
        "version": project.spec["version"],
        "license": project.spec["license"],
        "python-depends": [],
        "backend": {"type": backend},
    }
    path = target / "metadata.json"
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if (digest := digest_of(target)) is not None:
        told["digest"] = digest
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def digest_of(target: Path) -> dict | None:
    try:
        from kernels._rust import Digest, DigestAlgorithm
    except ImportError:
        return None
    found = Digest.hash_variant(DigestAlgorithm.SHA256, str(target))
    return {"algorithm": "sha256", "files": found.files}
