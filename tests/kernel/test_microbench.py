"""A project's times beside a published kernel's, which here lies in a folder that LOCAL_KERNELS names."""

import json
from pathlib import Path

import pytest

from .conftest import evidence, run_state

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_published_kernel_is_timed_beside_ones_own(ready: Path) -> None:
    spec = json.loads((ready / "kernel.json").read_text())
    spec["sizes"] = [one for one in spec["sizes"] if one["phase"] == "decode"][:1]
    (ready / "kernel.json").write_text(json.dumps(spec))
    done = run_state(
        "microbench", ready, "--rounds", "3", "--hub", "team/other:rms_norm", LOCAL_KERNELS=f"team/other={ready}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    timed = [one["numbers"] for one in evidence(ready, "microbench")["parts"] if one["status"] == "pass"]
    assert len(timed) == 1 and all(one["hub_us"] > 0 for one in timed)


@pytest.mark.parametrize(("hub", "said"), [("team/nowhere", "team/nowhere"), ("team/other:nothing", "no attribute")])
def test_a_published_kernel_that_cannot_be_called_is_the_persons_mistake(hub: str, said: str, ready: Path) -> None:
    done = run_state("microbench", ready, "--hub", hub, LOCAL_KERNELS=f"team/other={ready}")
    assert done.returncode == 2 and said in done.stderr and "LOCAL_KERNELS" in done.stderr
