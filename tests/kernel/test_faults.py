"""The judge against planted faults and against right kernels of another style."""

import pytest

from tests.kernel.faults import FAULTS, RIGHT, verdict

QUICK = {"the weight is forgotten", "two warps race for a slot", "the weight is multiplied before the rounding"}


def listed(every):
    slow = pytest.mark.slow
    return [pytest.param(one, id=one["name"], marks=[] if one["name"] in QUICK else slow) for one in every]


@pytest.mark.parametrize("fault", listed(FAULTS))
def test_a_planted_fault_is_caught(fault):
    assert verdict(fault), "nobody noticed"


@pytest.mark.parametrize("kernel", listed(RIGHT))
def test_a_right_kernel_is_not_called_wrong(kernel):
    assert verdict(kernel) is None


def test_there_are_enough():
    assert len(FAULTS) >= 20
    assert len(RIGHT) >= 10
