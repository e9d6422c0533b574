"""Planning a run as the agent does it: real audits of files, configs of real models, a reason for every number."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tools.fake_hub import FakeHub
from tests.tools.hub_samples import GOOD, Repo
from tools.context import Context, ToolError, inside
from tools.plan import METHODS, read_plan
from tools.planning import plan_training
from tools.plans.choice import adapters_for, method_for
from tools.plans.data import Facts, Verdict

TINY = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 128,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
QWEN3_06B = TINY | {"vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28}
QWEN3_06B |= {"num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 40960}
LLAMA_70B = TINY | {"model_type": "llama", "vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672}
LLAMA_70B |= {
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
LLAMA_70B |= {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 131072}


@pytest.fixture
def desk(context: Context) -> Context:
    """A working folder with models and data, offline."""
    context.offline = True
    for name, config in {"tiny": TINY, "small": QWEN3_06B, "large": LLAMA_70B}.items():
        (context.folder / name).mkdir()
        (context.folder / name / "config.json").write_text(json.dumps(config))
    sums = [(a, b) for a in range(25) for b in range(24)]
    rows(context, "talk.jsonl", [{"messages": said(f"What is {a} + {b}?", f"It is {a + b}.")} for a, b in sums])
    pairs = [{"prompt": f"{a} + {b}?", "chosen": f"It is {a + b}.", "rejected": f"Maybe {a - b}?"} for a, b in sums]
    rows(context, "pairs.jsonl", pairs)
    rows(context, "odd.jsonl", [{"question": f"{a} + {b}?", "answer": f"It is {a + b}."} for a, b in sums])
    return context


def said(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def rows(context: Context, name: str, told: list[dict[str, Any]]) -> None:
    (context.folder / name).write_text("".join(json.dumps(row) + "\n" for row in told))


def test_a_chat_file_becomes_a_valid_sft_plan_with_a_reason_for_each_value(desk: Context) -> None:
    told = plan_training("small", "talk.jsonl")
    plan = read_plan(json.loads(json.dumps(told["plan"])))
    assert (plan.method, plan.dataset.rows, plan.adapter.kind) == ("sft", 600, "lora")
    assert plan.dataset.fingerprint and plan.dataset.mapping is None and plan.model.parameters == 596_049_920
    assert plan.hyper.learning_rate == 2e-4 and plan.hyper.max_length == 128
    named = {one["what"] for one in told["reasons"] if one["why"]}
    assert {"method", "adapter", "learning_rate", "num_train_epochs", "max_length", "packing", "warmup_steps"} <= named
    assert {"per_device_train_batch_size", "gradient_accumulation_steps", "lr_scheduler_type", "r"} <= named
    assert plan.limits.minutes >= (plan.estimate.minutes[1] if plan.estimate and plan.estimate.minutes else 0)
    assert "| learning_rate | 0.0002 |" in told["markdown"]


def test_pairs_become_dpo_and_the_method_can_be_wished_otherwise(desk: Context) -> None:
    plan = read_plan(plan_training("tiny", "pairs.jsonl")["plan"])
    assert (plan.method, plan.hyper.beta, plan.eval.metric) == ("dpo", 0.1, "preference_accuracy")
    assert read_plan(plan_training("tiny", "pairs.jsonl", wish="make me a reward model")["plan"]).method == "reward"
    with pytest.raises(ToolError, match=r"cannot be used for dpo: .* It fits: .*sft"):
        plan_training("tiny", "talk.jsonl", method="dpo")


def test_other_column_names_bring_their_mapping(desk: Context) -> None:
    plan = read_plan(plan_training("tiny", "odd.jsonl", method="sft")["plan"])
    assert plan.dataset.mapping and "question" in plan.dataset.mapping
    compile(plan.dataset.mapping, "mapping", "exec")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_plans_without_a_dataset_on_a_cpu_and_on_a_gpu(desk: Context, method: str) -> None:
    for hardware in ("local", "l4x1", "a100x4"):
        told = plan_training("tiny", "", method=method, hardware=hardware)
        plan = read_plan(told["plan"])
        assert (plan.method, plan.hardware.name) == (method, hardware)
        assert plan.hyper.bf16 == (hardware != "local")
        assert "Assumed: 1,000 rows of 512 tokens, because no dataset was named." in told["notes"]


def test_hardware_and_cost_are_answered_without_data_or_account(desk: Context) -> None:
    told = plan_training("large", "", wish="what hardware and cost for a full fine-tune")
    plan = read_plan(told["plan"])
    assert plan.hardware.gpus >= 8 and plan.hardware.spread == "fsdp" and plan.adapter.kind == "none"
    assert plan.estimate and plan.estimate.usd and 0 < plan.estimate.usd[0] < plan.estimate.usd[1]
    marks = [one["mark"] for one in told["offers"] if one["mark"]]
    assert marks and all(one["fits"] for one in told["offers"] if one["mark"])
    assert all(one["problem"] for one in told["offers"] if not one["fits"])
    assert any("table of 2026-08-22" in note for note in told["notes"])
    assert "Jobs need a Hugging Face token with credit." in told["notes"]


def test_live_prices_are_used_and_named(hub: FakeHub, desk: Context) -> None:
    desk.offline, desk.hf_token = False, GOOD
    hub.repos.append(Repo("model", "acme/small", {"config.json": json.dumps(QWEN3_06B).encode()}))
    told = plan_training("acme/small", "", hardware="jobs")
    plan = read_plan(told["plan"])
    assert plan.hardware.name == "l4x1" and plan.hardware.usd_per_hour == pytest.approx(1.2)
    assert plan.model.revision and "Prices: live from Hugging Face." in told["notes"]


def test_a_70b_model_on_one_card_falls_back_to_four_bits(desk: Context) -> None:
    plan = read_plan(plan_training("large", "", hardware="a100-large")["plan"])
    assert plan.adapter.kind == "qlora" and plan.hyper.gradient_checkpointing
    assert any(one.what == "adapter" and "4 bits" in one.why for one in plan.reasons)


def test_qlora_on_this_cpu_is_refused_with_what_to_do(desk: Context, without_gpus: None) -> None:
    with pytest.raises(ToolError, match=r"needs an NVIDIA GPU\. Use overrides=\{'adapter': 'lora'\}"):
        plan_training("small", "", hardware="local", wish="use QLoRA please")


def test_old_cards_compute_in_fp16(desk: Context) -> None:
    hyper = read_plan(plan_training("small", "", hardware="t4-small")["plan"]).hyper
    assert (hyper.fp16, hyper.bf16, hyper.dtype) == (True, False, "float16")


def test_completions_always_divide_whatever_the_machine(desk: Context) -> None:
    for hardware in ("local", "t4-small", "l4x4", "h200x8"):
        for batch in (None, 3):
            pins = {"per_device_train_batch_size": batch} if batch else {}
            hyper = read_plan(plan_training("small", "", "grpo", hardware=hardware, overrides=pins)["plan"]).hyper
            together = hyper.per_device_train_batch_size * (hyper.steps_per_generation or 0)
            assert together and together % (hyper.num_generations or 0) == 0
            assert hyper.gradient_accumulation_steps % (hyper.steps_per_generation or 0) == 0


def test_what_the_person_sets_wins_and_is_counted_with(desk: Context) -> None:
    pins = {"learning_rate": 3e-5, "adapter": "none", "max_steps": 20, "seed": 7, "max_length": 64, "packing": False}
    plan = read_plan(plan_training("small", "talk.jsonl", hardware="l4x1", overrides=pins)["plan"])
    assert (plan.hyper.learning_rate, plan.adapter.kind, plan.hyper.max_steps, plan.seed) == (3e-5, "none", 20, 7)
    assert any(one.what == "learning_rate" and one.why == "you set it" for one in plan.reasons)
    longer = read_plan(
        plan_training("small", "talk.jsonl", hardware="l4x1", overrides=pins | {"max_steps": 2000})["plan"]
    )
    assert plan.estimate and longer.estimate and longer.estimate.minutes and plan.estimate.minutes
    assert longer.estimate.minutes[1] > 2 * plan.estimate.minutes[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"overrides": {"learning_rat": 1}}, "there is no setting 'learning_rat'. Did you mean 'learning_rate'?"),
        ({"overrides": {"max_length": "long"}}, "max_length cannot be 'long'"),
        ({"overrides": {"r": "big"}}, "r must be a whole number"),
        ({"overrides": {"adapter": "dora"}}, "Unknown adapter 'dora'. Use one of: none, lora, qlora."),
        ({"method": "ppo"}, "Unknown method 'ppo'."),
        ({"method": "dpoo"}, "Did you mean 'dpo'?"),
        ({"hardware": "a10g-larg"}, "Unknown hardware 'a10g-larg'. Did you mean 'a10g-large'?"),
        ({"max_usd": 0}, "max_usd must be more than 0"),
        ({"dataset": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"dataset": "talk.jsonl", "overrides": {"eval_split": "tst"}}, "has no split 'tst'. It has: train."),
        ({"model": "./nowhere"}, "There is no folder './nowhere'"),
    ],
)
def test_wrong_arguments_are_told_with_what_would_be_right(desk: Context, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolError) as caught:
        plan_training(**({"model": "tiny", "dataset": ""} | arguments))
    assert said in str(caught.value)


def test_a_limit_that_nothing_keeps_is_told_with_what_it_would_take(desk: Context) -> None:
    with pytest.raises(ToolError, match=r"No machine stays within 0\.01 USD: .* may need up to .* USD"):
        plan_training("large", "", max_usd=0.01)
    plan = read_plan(plan_training("large", "", max_minutes=600, max_usd=500)["plan"])
    assert plan.limits.minutes == 600 and plan.limits.usd and plan.limits.usd <= 500


def test_a_machine_that_is_too_small_is_told(desk: Context) -> None:
    with pytest.raises(ToolError, match=r"No machine fits .* t4-small needs .* GPU memory, 14\.7 of 16 GB can be used"):
        plan_training("large", "", hardware="t4-small")


def test_a_dataset_the_hub_cannot_be_asked_for_is_assumed_and_said(desk: Context) -> None:
    told = plan_training("tiny", "open-r1/codeforces-cots")
    assert any(note.startswith("Assumed:") and "could not be read" in note for note in told["notes"])
    assert read_plan(told["plan"]).dataset.id == "open-r1/codeforces-cots"


def test_the_choice_follows_data_then_wish() -> None:
    verdicts = {name: Verdict(name, "ready", "fits") for name in ("sft", "dpo")}
    assert method_for(None, "", Facts(verdicts=verdicts, best="sft"))[0] == "sft"
    assert method_for(None, "align it to our preferences", Facts(verdicts=verdicts, best="sft"))[0] == "dpo"
    assert method_for("Continued Pretraining", "", Facts())[0] == "cpt"
    with pytest.raises(ToolError, match="fits no training method"):
        method_for(None, "", Facts(id="x", verdicts={"sft": Verdict("sft", "incompatible", "no text")}))


def test_tiny_models_are_trained_whole_and_large_ones_by_adapter(desk: Context) -> None:
    from tools.hardware.loading import load

    tiny, large = load("tiny").model, load("large").model
    assert adapters_for(None, "", "dpo", tiny)[0][0] == "none"
    assert [name for name, _ in adapters_for(None, "", "sft", large)] == ["lora", "qlora"]
    assert [name for name, _ in adapters_for(None, "full fine-tune", "sft", large)] == ["none"]


@pytest.fixture
def without_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_planning_is_quick_and_leaves_no_trace(desk: Context) -> None:
    before = sorted(path.name for path in desk.folder.iterdir())
    with inside(desk):
        plan_training("tiny", "talk.jsonl")
    assert sorted(path.name for path in desk.folder.iterdir()) == before


def test_a_cpu_gets_fewer_and_shorter_answers_and_small_passes(desk: Context) -> None:
    here = read_plan(plan_training("tiny", "", "grpo", hardware="local")["plan"]).hyper
    there = read_plan(plan_training("tiny", "", "grpo", hardware="l4x1")["plan"]).hyper
    assert (here.num_generations, here.max_completion_length, there.num_generations) == (4, 128, 8)
    assert here.per_device_train_batch_size * here.gradient_accumulation_steps == 16
    many = {"num_generations": 16}
    pinned = read_plan(plan_training("tiny", "", "grpo", hardware="l4x1", overrides=many)["plan"]).hyper
    assert pinned.per_device_train_batch_size * pinned.gradient_accumulation_steps == 8 * 16
    long = {name: plan_training("tiny", "", "sft", hardware=name)["plan"]["hyper"] for name in ("local", "l4x1")}
    assert [long[name]["per_device_train_batch_size"] for name in long] == [1, 16]
    assert [long[name]["packing"] for name in long] == [False, True]


def test_hours_here_are_set_beside_what_a_rented_machine_takes(desk: Context, without_gpus: None) -> None:
    slow, quick = plan_training("small", ""), plan_training("tiny", "talk.jsonl")
    assert any(note.startswith("Faster: hardware='") for note in slow["notes"])
    assert not any(note.startswith("Faster:") for note in quick["notes"])


def test_of_machines_that_cost_alike_the_fastest_is_taken(desk: Context) -> None:
    told = plan_training("small", "", hardware="jobs")
    chosen = next(one for one in told["offers"] if one["name"] == told["plan"]["hardware"]["name"])
    cheapest = next(one for one in told["offers"] if "cheapest" in one["mark"])
    assert chosen["usd"][1] <= cheapest["usd"][1] * 1.25 + 0.10
    assert chosen["minutes"][1] < cheapest["minutes"][1] / 4  # a processor for hours costs as much


def test_what_a_person_sets_stands_in_the_plan_as_theirs(desk: Context) -> None:
    said = {"max_steps": 10, "logging_steps": 3, "num_train_epochs": 4}
    made = plan_training("tiny", "talk.jsonl", "sft", overrides=said)
    told = {one["what"]: (one["value"], one["why"]) for one in made["reasons"]}
    assert [told[name] for name in said] == [(str(value), "you set it") for value in (10, 3, 4)]
    assert read_plan(made["plan"]).hyper.logging_steps == 3
