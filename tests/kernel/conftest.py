"""A real project of the RMSNorm pattern, made once by the skill's own programs, and its CPU build."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT

SCRIPTS = ROOT / "skills" / "kernel-builder" / "scripts"
QWEN = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 128,
        "rms_norm_eps": 1e-5}  # fmt: skip


def run_state(state: str, project: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A state's program as a person runs it."""
    own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", **env}
    command = [sys.executable, str(SCRIPTS / f"{state}.py"), str(project), *options]
    return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=110, check=False)


def evidence(project: Path, state: str) -> dict[str, Any]:
    return json.loads((project / "evidence" / f"{state}.json").read_text())


def parts(project: Path, state: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in evidence(project, state)["parts"]}


def script(name: str) -> ModuleType:
    """One of the programs as a module, for what needs no process of its own."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 of three narrow layers, as its config.json tells it."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(QWEN))
    return folder


@pytest.fixture(scope="session")
def scaffolded(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    project = tmp_path_factory.mktemp("kernels") / "small-rms-norm"
    options = ["--pattern", "rms_norm", "--target", "H100", "--model", str(model), "--name", "small-rms-norm"]
    for done in (run_state("spec", project, *options), run_state("scaffold", project)):
        assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture(scope="session")
def built(scaffolded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("g++"):
        pytest.skip("no g++ here")
    project = tmp_path_factory.mktemp("built") / scaffolded.name
    shutil.copytree(scaffolded, project)
    done = run_state("compile", project, "--only", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    if not (project / "build").exists():
        pytest.skip(parts(project, "compile")["cpu"]["reason"])
    return project


@pytest.fixture
def project(scaffolded: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(scaffolded, tmp_path / scaffolded.name))


@pytest.fixture
def ready(built: Path, tmp_path: Path) -> Path:
    """A built copy to change."""
    return Path(shutil.copytree(built, tmp_path / built.name))
