"""The plan as an object: what is strict about it, and what a small model reads when it got it wrong."""

import json
from typing import Any

import pytest

from tools.context import ToolError
from tools.plan import METHODS, TrainingPlan, read_plan


def good(**changes: Any) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "method": "sft",
        "model": {"id": "acme/tiny", "parameters": 1000},
        "dataset": {"id": "talk.jsonl"},
        "adapter": {"kind": "lora", "r": 8, "alpha": 16},
        "hyper": {"learning_rate": 2e-4, "per_device_train_batch_size": 4},
        "hardware": {"where": "local", "name": "local", "device": "cpu"},
        "limits": {"minutes": 10},
    }
    for path, value in changes.items():
        *parts, last = path.split("__")
        place = plan
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    return plan


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_of_every_method_survives_json(method: str) -> None:
    sampling = {"hyper__num_generations": 4, "hyper__max_completion_length": 64} if method in ("grpo", "rloo") else {}
    plan = read_plan(good(method=method, estimate={"memory_gb": 1.5, "minutes": [1.0, 2.0]}, **sampling))
    assert read_plan(plan.model_dump_json()) == plan
    assert read_plan(json.loads(plan.model_dump_json())) == plan


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "ppo"}, "method: Input should be 'sft'"),
        ({"hyper__learning_rat": 1e-4}, "hyper.learning_rat does not exist. Did you mean learning_rate?"),
        ({"hyper__learning_rate": -1.0}, "hyper.learning_rate: Input should be greater than 0; it is -1.0"),
        ({"hyper__learning_rate": "fast"}, "it is 'fast'"),
        ({"hyper__per_device_train_batch_size": True}, "hyper.per_device_train_batch_size"),
        ({"adapter__r": None}, "a lora adapter needs r and alpha"),
        ({"adapter__kind": "qlora"}, "qlora needs an NVIDIA GPU; on a CPU use the adapter lora"),
        ({"hyper__bf16": True}, "on a CPU bf16 and fp16 must be False"),
        ({"method": "dpo", "hyper__packing": True}, "packing is for cpt and sft only"),
        ({"method": "kto", "hyper__per_device_train_batch_size": 1}, "kto needs"),
        ({"hardware__spread": "fsdp"}, "fsdp needs at least two GPUs"),
        ({"limits": {}}, "limits.minutes is missing. Add it."),
        ({"eval": {"split": "test", "share": 0.1}}, "give one"),
        ({"method": "grpo"}, "grpo needs num_generations"),
    ],
)
def test_a_wrong_plan_is_told_in_one_line_with_what_to_do(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolError) as caught:
        read_plan(good(**change))
    lines = str(caught.value).splitlines()
    assert lines[0] == "The plan is not valid:" and len(lines) == 2
    assert said in lines[1]


def test_completions_that_do_not_divide_are_refused_with_the_numbers() -> None:
    change = {"hyper__num_generations": 8, "hyper__max_completion_length": 64}
    with pytest.raises(ToolError, match="is 4, not a multiple of num_generations=8"):
        read_plan(good(method="grpo", **change))
    assert read_plan(good(method="grpo", hyper__gradient_accumulation_steps=2, **change)).method == "grpo"
    with pytest.raises(ToolError, match="is 4, not"):
        read_plan(good(method="grpo", hyper__gradient_accumulation_steps=2, hyper__steps_per_generation=1, **change))


def test_what_is_no_json_is_told() -> None:
    with pytest.raises(ToolError, match="it is not JSON"):
        read_plan("{half")
    with pytest.raises(ToolError, match="not plain JSON"):
        read_plan(good(seed={1, 2}))


def test_parts_that_are_left_out_have_safe_values() -> None:
    plan = read_plan(good())
    assert isinstance(plan, TrainingPlan)
    assert (plan.seed, plan.eval.split, plan.outputs.push_to, plan.limits.usd) == (42, None, None, None)
