"""Publishing, rehearsed with the real client on a Hub on loopback; and what is refused before a byte leaves."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import evidence, parts, run_state, script
from tests.kernel.kernel_hub import KernelHub
from tests.tools.hub_samples import GOOD

LOADED = """
import torch
from kernels import get_kernel
kernel = get_kernel("team/small", version=1, trust_remote_code=True)
x, weight = torch.randn(3, 64), torch.rand(64)
torch.testing.assert_close(kernel.rms_norm(x, weight), torch.nn.functional.rms_norm(x, (64,), weight, 1e-6))
print(kernel.__name__)
"""


@pytest.fixture
def hub() -> Iterator[KernelHub]:
    hub = KernelHub()
    yield hub
    hub.close()


@pytest.fixture
def proven(ready: Path) -> Path:
    """As if its checks had passed: what they say is other tests' matter."""
    told = {
        "state": "report",
        "status": "pass",
        "reason": "",
        "parts": [],
        "numbers": {"verdict": "CHECKED WITHOUT A GPU"},
    }
    (ready / "evidence" / "report.json").write_text(json.dumps(told))
    return ready


def settings(hub: KernelHub, tmp_path: Path) -> dict[str, str]:
    told = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "0"}  # without it kernels 0.17 sends an empty header
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": GOOD, "HF_HOME": str(tmp_path / "hf"), **told}


def test_a_rehearsal_uploads_card_builds_and_benchmarks_and_the_kernel_loads_from_there(
    proven: Path, hub: KernelHub, tmp_path: Path
) -> None:
    env = settings(hub, tmp_path)
    done = run_state("publish", proven, "--repo", "team/small", "--upload", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    held = hub.kernels["team/small"]
    variant = next((proven / "build").iterdir())
    assert set(held["main"]) == {"README.md"} and b'get_kernel("team/small-rms-norm"' in held["main"]["README.md"]
    local = {f"build/{variant.name}/{one.relative_to(variant)}" for one in variant.rglob("*") if one.is_file()}
    assert set(held["v1"]) == local | {"README.md", "benchmarks/benchmark_rms_norm.py"}
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED], env={**os.environ, **env, "HF_HUB_DISABLE_XET": "1"}, cwd=tmp_path,
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("_small_rms_norm_cpu_")


def test_a_hub_that_refuses_the_token_is_a_fail_with_its_words(proven: Path, hub: KernelHub, tmp_path: Path) -> None:
    env = settings(hub, tmp_path) | {"HF_TOKEN": "hf_wrong"}
    done = run_state("publish", proven, "--repo", "team/small", "--upload", **env)
    assert done.returncode == 1 and parts(proven, "publish")["upload"]["status"] == "fail"
    assert "401" in parts(proven, "publish")["upload"]["reason"] and hub.kernels == {}


def test_a_build_made_here_is_not_for_the_real_hub(proven: Path) -> None:
    done = run_state("publish", proven, "--repo", "team/small", "--upload", HF_TOKEN=GOOD)
    assert done.returncode == 0
    told = evidence(proven, "publish")
    waiting = [one for one in told["parts"] if one["status"] == "not_run"]
    assert len(waiting) == 1 and "was built here" in waiting[0]["reason"]
    assert "upload" not in parts(proven, "publish") and "kernel-builder build-and-copy" in done.stdout


def test_nothing_is_published_that_no_report_calls_right(ready: Path, hub: KernelHub, tmp_path: Path) -> None:
    done = run_state("publish", ready, "--repo", "team/small", "--upload", **settings(hub, tmp_path))
    assert done.returncode == 1 and "run check, then report" in done.stdout and hub.kernels == {}


def test_a_link_in_a_build_is_never_followed(proven: Path, hub: KernelHub, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not for the Hub")
    (next((proven / "build").iterdir()) / "notes.txt").symlink_to(tmp_path / "secret")
    upload = subprocess.run(
        [sys.executable, script("upload").__file__, str(proven), "--repo", "team/small"],
        env={**os.environ, **settings(hub, tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert upload.returncode == 2 and "holds links: notes.txt" in upload.stderr and hub.kernels == {}


def test_a_file_changed_after_the_build_breaks_its_digest(proven: Path, hub: KernelHub, tmp_path: Path) -> None:
    functions = next((proven / "build").glob("*/functions.py"))
    functions.write_text(functions.read_text() + "\n# later\n")
    done = run_state("publish", proven, "--repo", "team/small", "--upload", **settings(hub, tmp_path))
    assert done.returncode == 1 and "functions.py" in done.stdout and hub.kernels == {}


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("torch-stable-abi211-cpu-x86_64-linux", True),
        ("torch213-cxx11-cu130-aarch64-linux", True),
        ("torch-cuda", True),
        ("torch213-cu130-x86_64-linux", False),
        ("build-cpu", False),
    ],
)
def test_variants_are_named_as_the_hub_names_them(name: str, good: bool, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "metadata.json").write_text('{"id": "x"}')
    assert (script("upload").refusals(name, tmp_path / name, True) == []) == good
