"""What a shared library needs from the machine it is loaded on: symbols nobody may provide, and the oldest glibc."""

import re
import shutil
from pathlib import Path

from tools_here import run

MANYLINUX = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 25), "CXXABI": (1, 3, 11)}  # of manylinux_2_28
UNSTABLE = re.compile(r"^_ZN?K?\d*(2at|3c10|5torch(?!6stable)|8pybind11)")
PREFIXES = ("aoti_torch_", "torch_", "Py", "_Py", "cuda", "__cuda")


def undefined(library: Path) -> list[tuple[str, str]] | None:
    """Undefined symbols and the versions they ask for; None without nm."""
    if shutil.which("nm") is None:
        return None
    lines = run("nm", "-D", "--undefined-only", library).text.splitlines()
    names = [line.split()[-1] for line in lines if line.split()]
    return [(name.partition("@")[0], name.rpartition("@")[2] if "@" in name else "") for name in names]


def outside_stable_abi(library: Path) -> list[str] | None:
    """Symbols of torch's C++ interface, which change from one release to the next."""
    found = undefined(library)
    return None if found is None else [name for name, _ in found if UNSTABLE.match(name)]


def too_new(library: Path) -> list[str] | None:
    """Versions above what the Hub promises (manylinux_2_28): only a real builder stays below them everywhere."""
    found = undefined(library)
    if found is None:
        return None
    above = set()
    for _, version in found:
        name, _, number = version.partition("_")
        if name in MANYLINUX and number[:1].isdigit():
            parts = tuple(int(part) for part in number.split(".") if part.isdigit())
            above |= {version} if parts > MANYLINUX[name] else set()
    return sorted(above)
