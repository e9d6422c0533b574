"""The contract: programs that use nothing but the official SDK run unchanged against our server."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .serving import ROOT, Served

TOUR = ROOT / "examples" / "e2b_tour.py"


def test_the_tour_of_the_python_sdk_runs(served: Served) -> None:
    ran = subprocess.run([sys.executable, TOUR], env=served.environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith("all held\n")
