"""The contract: programs that use nothing but the official SDK run unchanged against our server."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .serving import ROOT, Served

EXAMPLES = ROOT / "examples"
JAVASCRIPT = ("e2b_tour.mjs", "package.json", "package-lock.json")


def run(served: Served, *command: str | Path, cwd: Path = ROOT) -> str:
    ran = subprocess.run(command, cwd=cwd, env=served.environment, capture_output=True, text=True, timeout=110)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_tour_of_the_python_sdk_runs(served: Served) -> None:
    assert run(served, sys.executable, EXAMPLES / "e2b_tour.py").endswith("all held\n")


@pytest.mark.skipif(not shutil.which("npm"), reason="Node.js with npm is not installed")
def test_the_tour_of_the_javascript_sdk_runs(served: Served, tmp_path: Path) -> None:
    for name in JAVASCRIPT:
        shutil.copy(EXAMPLES / name, tmp_path)
    run(served, "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", cwd=tmp_path)
    assert run(served, "node", "e2b_tour.mjs", cwd=tmp_path).endswith("all held\n")


def test_the_javascript_packages_are_pinned_by_content_and_not_by_address() -> None:
    wanted = json.loads((EXAMPLES / "package.json").read_text())["dependencies"]
    locked = json.loads((EXAMPLES / "package-lock.json").read_text())["packages"]
    assert locked.pop("")["dependencies"] == wanted
    assert all(locked[f"node_modules/{name}"]["version"] == version for name, version in wanted.items())
    assert all("integrity" in package and "resolved" not in package for package in locked.values())
