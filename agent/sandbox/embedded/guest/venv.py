"""A writable virtual environment over the read-only one, so that `pip install` works inside the sandbox.

It is a handful of small files in home: packages of the read-only environment are seen through a .pth file, installed
ones come first. Nothing is copied and no process is started.
"""

import os
import sys
from pathlib import Path


def make(home: Path) -> None:
    """Create `home/.venv` unless it is there already (a resumed sandbox keeps what it installed)."""
    root = home / ".venv"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = root / "lib" / version / "site-packages"
    if (root / "pyvenv.cfg").exists():
        return
    packages.mkdir(parents=True, exist_ok=True)
    (root / "bin").mkdir(exist_ok=True)
    base = Path(sys.base_prefix) / "bin" / version
    (root / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    below = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "below.pth").write_text("\n".join(below) + "\n")
    for name in ("python", "python3", version):
        os.symlink(base, root / "bin" / name)
    for name in ("pip", "pip3"):
        pip = root / "bin" / name
        pip.write_text(f'#!/bin/sh\nexec {root}/bin/python -m pip "$@"\n')
        pip.chmod(0o755)
