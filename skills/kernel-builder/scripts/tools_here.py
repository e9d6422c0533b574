"""Which compilers and readers of machine code this machine has, and running them with a limit.

A tool that is missing is told as None, so that a state can say `not_run` instead of passing.
"""

import functools
import importlib.util
import os
import platform
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ABI = "0x020b000000000000"  # the stable ABI of torch 2.11
ABI_NAME = "torch-stable-abi211"
LIMIT_S = 280


@dataclass(frozen=True)
class Outcome:
    command: str
    code: int
    text: str

    @property
    def first_error(self) -> str:
        lines = [line.strip() for line in self.text.splitlines()]
        return next((line for line in lines if "error" in line.lower()), (lines or ["it said nothing"])[-1])[:400]


def run(
    *words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, limit: float = LIMIT_S
) -> Outcome:
    argv = [str(one) for one in words]
    try:
        done = subprocess.run(
            argv, cwd=cwd, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(" ".join(argv), 124, f"error: {Path(argv[0]).name} was stopped after {limit:.0f} s")
    return Outcome(" ".join(argv), done.returncode, done.stdout)


def cuda_home() -> Path | None:
    for place in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        if place and (Path(place) / "bin" / "nvcc").exists():
            return Path(place)
    found = shutil.which("nvcc")
    return Path(found).resolve().parent.parent if found else None


def nvcc() -> str | None:
    home = cuda_home()
    return str(home / "bin" / "nvcc") if home else None


@functools.cache
def nvcc_archs() -> list[str]:
    """Every real architecture from sm_75 to sm_12x that this nvcc knows, oldest first."""
    program = nvcc()
    if program is None:
        return []
    names = {line.strip() for line in run(program, "--list-gpu-code").text.splitlines() if line.startswith("sm_")}
    return sorted(names, key=lambda name: int(name[3:])) if names else []


def toolkit(program: str) -> str | None:
    """cuobjdump and the like: from CUDA, or from inside the triton wheel."""
    home = cuda_home()
    if home and (home / "bin" / program).exists():
        return str(home / "bin" / program)
    triton = importlib.util.find_spec("triton")
    inside = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / program if triton and triton.origin else None
    return str(inside) if inside and inside.exists() else shutil.which(program)


def cxx() -> str | None:
    return shutil.which("g++")


def python_include() -> Path | None:
    """The folder of Python.h, or None where only the interpreter is installed."""
    path = Path(sysconfig.get_paths()["include"])
    return path if (path / "Python.h").exists() else None


@functools.cache
def torch_home() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise RuntimeError("torch is not installed")
    return Path(spec.origin).parent


def torch_includes() -> list[str]:
    home = torch_home() / "include"
    return ["-isystem", str(home), "-isystem", str(home / "torch" / "csrc" / "api" / "include")]


def platform_name() -> str:
    return f"{platform.machine()}-{platform.system().lower()}"
