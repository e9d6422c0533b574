"""The judge against planted faults and against right kernels of another style."""

import pytest

from tests.kernel.bench import PATTERNS, Judge, load_module  # isort: skip
import torch
from judge import Expected

from tests.kernel.faults import FAULTS, RIGHT, verdict

QUICK = {"the weight is forgotten", "two warps race for a slot", "the weight is multiplied before the rounding",
         "the halves of a warp meet by themselves first"}  # fmt: skip


def listed(every):
    slow = pytest.mark.slow
    return [pytest.param(one, id=one["name"], marks=[] if one["name"] in QUICK else slow) for one in every]


@pytest.mark.parametrize("fault", listed(FAULTS))
def test_a_planted_fault_is_caught(fault):
    said = verdict(fault)
    assert said, "nobody noticed"
    assert fault.get("says", "") in said


@pytest.mark.parametrize("kernel", listed(RIGHT))
def test_a_right_kernel_is_not_called_wrong(kernel):
    assert verdict(kernel) is None


@pytest.mark.parametrize(("belongs", "wrong"), [(1.3e-41, False), (1.3e-37, True)])
def test_only_what_is_too_small_for_a_normal_float32_may_be_0(belongs, wrong):
    exact = torch.tensor([[1.0 - belongs, belongs]], dtype=torch.float64)
    got = torch.tensor([[1.0, 0.0]])
    judge = Judge(load_module("oracle", PATTERNS / "softmax" / "oracle.py"))
    assert bool(judge.compare([got], Expected([exact], [exact.float()], [exact]))) is wrong


def test_there_are_enough():
    assert len(FAULTS) >= 20
    assert len(RIGHT) >= 10
