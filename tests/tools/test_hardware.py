"""What models weigh, what machines cost, and what fits: known counts, live and dated prices, honest refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tools.fake_hub import FakeHub, flavor
from tests.tools.hub_samples import GOOD, Repo, safetensors
from tools.context import Context, ToolError, inside
from tools.hardware import fit, offers
from tools.hardware.fit import Fit, Load
from tools.hardware.loading import load
from tools.hardware.memory import Work, peak
from tools.hardware.models import Model, by_layout, from_config
from tools.hardware.offers import Offer, free_gb, jobs_offers
from tools.hardware.speed import tokens_per_second

GB = 2**30


def config(family: str, hidden: int, layers: int, heads: int, keys: int, width: int, vocab: int, **more: Any) -> Any:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    shape = dict(zip(names, (hidden, layers, heads, keys, width), strict=True))
    kinds = {"qwen3_moe": "Qwen3Moe", "qwen2_moe": "Qwen2Moe"}
    built = f"{kinds.get(family, family.capitalize())}ForCausalLM"
    return {"model_type": family, "architectures": [built], "vocab_size": vocab} | shape | more


QWEN3_06B = config("qwen3", 1024, 28, 16, 8, 3072, 151936, head_dim=128, tie_word_embeddings=True)
QWEN3_8B = config("qwen3", 4096, 36, 32, 8, 12288, 151936, head_dim=128, tie_word_embeddings=False)
EXPERTS = {"moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "head_dim": 128}
QWEN3_30B = config("qwen3_moe", 2048, 48, 32, 4, 6144, 151936, tie_word_embeddings=False, **EXPERTS)
LLAMA_70B = config("llama", 8192, 80, 64, 8, 28672, 128256, tie_word_embeddings=False)
MIXTRAL = config("mixtral", 4096, 32, 32, 8, 14336, 32000, num_local_experts=8, num_experts_per_tok=2)
QWEN25_05B = config("qwen2", 896, 24, 14, 2, 4864, 151936, tie_word_embeddings=True)
GEMMA2_2B = config("gemma2", 2304, 26, 8, 4, 9216, 256000, head_dim=256)

KNOWN = [
    (QWEN3_06B, 596_049_920, 596_049_920),
    (QWEN3_8B, 8_190_735_360, 8_190_735_360),
    (QWEN3_30B, 30_532_122_624, 3_353_032_704),
    (LLAMA_70B, 70_553_706_496, 70_553_706_496),
    (MIXTRAL, 46_702_792_704, 12_879_925_248),
    (QWEN25_05B, 494_032_768, 494_032_768),
    (GEMMA2_2B, 2_614_341_888, 2_614_341_888),
]


@pytest.mark.parametrize(("told", "total", "active"), KNOWN, ids=lambda one: str(one)[:30])
def test_known_models_are_counted_to_the_last_parameter(told: Any, total: int, active: int) -> None:
    model = from_config(told)
    assert (model.parameters, model.active) == (total, active)


def test_untying_the_embeddings_adds_exactly_one_matrix() -> None:
    apart = from_config(QWEN3_06B | {"tie_word_embeddings": False})
    assert apart.parameters - from_config(QWEN3_06B).parameters == 151936 * 1024


@pytest.mark.parametrize("told", [QWEN3_06B, QWEN25_05B, GEMMA2_2B, QWEN3_30B], ids=lambda one: one["model_type"])
def test_the_formula_agrees_with_what_transformers_builds(told: Any) -> None:
    counted, built = from_config(told), by_layout(told, "", "")
    assert counted.parameters == built.parameters and counted.active == built.active
    assert counted.lora_parameters(16) == built.lora_parameters(16)
    assert (counted.width, counted.tied, counted.gated) == (built.width, built.tied, built.gated)


def test_other_architectures_are_laid_out_and_counted() -> None:
    shape = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    image = from_config({"model_type": "vit", "architectures": ["ViTForImageClassification"], **shape})
    assert image.parameters == 85_800_194 and not image.decoder and image.vocab == 0
    gpt2 = from_config({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    assert gpt2.parameters == 124_439_808 and gpt2.tied and gpt2.lora_parameters(8) > 0


def test_a_vision_tower_is_counted_apart() -> None:
    text = {"model_type": "qwen3", "hidden_size": 256, "num_hidden_layers": 2, "vocab_size": 1000}
    tower = {"model_type": "clip_vision_model", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
    told = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}
    model = from_config(told | {"text_config": text, "vision_config": tower | {"num_attention_heads": 4}})
    assert 0 < model.vision < model.parameters and (model.hidden, model.layers) == (256, 2)


def test_a_folder_is_read_from_its_config(context: Context) -> None:
    write(context.folder / "mine", "config.json", json.dumps(QWEN3_06B))
    model = load("mine").model
    assert model.parameters == 596_049_920 and model.source == "its config.json"


def test_an_unknown_architecture_is_counted_in_its_weights(context: Context) -> None:
    folder = context.folder / "odd"
    write(folder, "config.json", json.dumps({"model_type": "nonsense", "hidden_size": 8}))
    (folder / "model.safetensors").write_bytes(safetensors(a=("BF16", [100, 8]), b=("F32", [10])))
    model = load("odd").model
    assert model.parameters == 810 and not model.exact and "safetensors header" in model.source


def test_wrong_folders_say_what_to_give_instead(context: Context) -> None:
    write(context.folder / "adapter", "adapter_config.json", '{"base_model_name_or_path": "acme/base"}')
    with pytest.raises(ToolError, match=r"is an adapter, not a model. Plan with its base model: acme/base"):
        load("adapter")
    (context.folder / "empty").mkdir()
    with pytest.raises(ToolError, match=r"has no config.json"):
        load("empty")
    write(context.folder / "broken", "config.json", "{")
    with pytest.raises(ToolError, match="not valid JSON"):
        load("broken")
    with pytest.raises(ToolError, match="There is no folder"):
        load("./nowhere")


def test_a_model_of_the_hub_is_read_there_with_its_revision(hub: FakeHub, context: Context) -> None:
    hub.repos.append(Repo("model", "acme/real", {"config.json": json.dumps(QWEN3_06B).encode()}))
    found = load("acme/real")
    assert found.model.parameters == 596_049_920 and found.revision == hub.find("model", "acme/real").sha
    with pytest.raises(ToolError, match="not found on the Hub"):
        load("acme/Missing-7B")


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("Qwen/Qwen3-1.7B", 1.7e9, 1.7e9),
        ("Qwen/Qwen3-32B", 32e9, 32e9),
        ("x/SmolLM2-135M-Instruct", 135e6, 135e6),
        ("Qwen/Qwen3-30B-A3B-Base", 30e9, 3e9),
        ("mistralai/Mixtral-8x7B-v0.1", 56e9, 56e9),
    ],
)
def test_offline_a_size_in_the_name_is_read_and_labelled(name: str, total: float, active: float) -> None:
    with inside(Context(offline=True)):
        found = load(name)
    assert (found.model.parameters, found.model.active) == (total, active)
    assert "from its name" in found.model.source and not found.model.exact


def test_offline_without_a_size_in_the_name_it_says_what_to_do() -> None:
    with inside(Context(offline=True)), pytest.raises(ToolError, match=r"Give a local folder with its config\.json"):
        load("acme/Phoenix-v2")


def test_prices_are_live_when_the_hub_tells_them(hub: FakeHub) -> None:
    with inside(Context(hf_token=GOOD)):
        found, note = jobs_offers()
    four = next(one for one in found if one.name == "l4x4")
    assert (four.gpus, four.vram_gb, four.cpus, four.ram_gb, four.gpu) == (4, 24, 48, 186, "L4")
    assert four.usd_per_hour == pytest.approx(4.2) and note == "Prices: live from Hugging Face."


def test_an_unknown_price_is_none_and_never_nothing(hub: FakeHub) -> None:
    hub.hardware = [flavor("odd", "2 vCPU", "1.5 TB", 0.1, label="moon")]
    with inside(Context(hf_token=GOOD)):
        found, _ = jobs_offers()
    assert found[0].usd_per_hour is None and found[0].ram_gb == 1536


def test_without_a_live_list_the_dated_table_answers_and_says_so(hub: FakeHub) -> None:
    cases = [Context(offline=True), Context(), Context(hf_token=GOOD)]
    hub.hardware = [{"name": "from another planet"}]
    for told in cases:
        with inside(told):
            found, note = jobs_offers()
        assert "from a table of 2026-08-22" in note
        assert next(one for one in found if one.name == "h200x8").vram_gb == 141
        assert next(one for one in found if one.name == "l4x4").vram_gb == 24
    assert [path for path in hub.paths() if "hardware" in path] == ["/api/jobs/hardware"]


def test_this_machine_is_offered_with_its_cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = "#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 24564'\necho 'NVIDIA GeForce RTX 4090, 24564'\n"
    write(tmp_path, "nvidia-smi", told).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    here = offers.local_offer()
    assert (here.gpus, here.gpu, round(here.vram_gb)) == (2, "GeForce RTX 4090", 24)
    assert here.usd_per_hour == 0 and here.cpus >= 1 and here.ram_gb > 0


def test_a_containers_limit_counts_as_memory(tmp_path: Path) -> None:
    write(tmp_path, "meminfo", "MemTotal: 1 kB\nMemAvailable: 16777216 kB\n")
    write(tmp_path, "memory.max", str(4 * GB))
    write(tmp_path, "memory.current", str(GB))
    assert free_gb(tmp_path / "meminfo", tmp_path) == 3
    write(tmp_path, "memory.max", "max")
    assert free_gb(tmp_path / "meminfo", tmp_path) == 16


def test_a_full_fine_tune_of_70b_is_spread_over_several_gpus() -> None:
    found = everywhere(from_config(LLAMA_70B), Work("sft", length=1024))
    fitting = [one for one in found if one.fits]
    assert fitting and all(one.offer.gpus >= 8 and one.spread == "fsdp" for one in fitting)
    assert sum("cheapest" in one.mark for one in found) == 1 and sum("fastest" in one.mark for one in found) == 1
    assert "GPU memory" in next(one for one in found if one.offer.name == "h200").problem


def test_small_models_fit_one_gpu_and_are_copied_to_more() -> None:
    found = {one.offer.name: one for one in everywhere(from_config(QWEN3_06B), Work("sft", "lora"))}
    assert found["t4-small"].fits and found["t4-small"].spread == "none"
    assert found["l4x4"].spread == "ddp"


def test_28_gb_do_not_fit_24() -> None:
    need = peak(from_config(QWEN3_8B), Work("sft", "lora", batch=4, length=2048, checkpointing=True))
    assert 24 * GB < need.total < 32 * GB
    small, large = Offer("s", "hf-jobs", 8, 64, "X", 1, 24), Offer("l", "hf-jobs", 8, 64, "X", 1, 40)
    pinned = {"per_device_train_batch_size", "gradient_checkpointing"}
    work, load_ = Work("sft", "lora", batch=4, length=2048, checkpointing=True), Load(100, 1024, 4)
    refused = fit.on(from_config(QWEN3_8B), work, load_, small, pinned)
    assert not refused.fits and "22.1 of 24 GB can be used" in refused.problem
    assert fit.on(from_config(QWEN3_8B), work, load_, large, pinned).fits


def test_main_memory_counts_beside_the_gpus() -> None:
    poor = Offer("poor", "hf-jobs", 4, 4, "X", 1, 80)
    told = fit.on(from_config(QWEN3_8B), Work("sft", "lora"), Load(100, 512, 4), poor, set())
    assert "main memory" in told.problem


def test_qlora_on_a_cpu_is_refused_with_the_reason() -> None:
    told = fit.on(from_config(QWEN3_06B), Work("sft", "qlora"), Load(100, 512, 4), Offer("c", "local", 8, 999), set())
    assert told.problem == "4-bit loading needs an NVIDIA GPU"


def test_each_part_of_memory_follows_what_causes_it() -> None:
    dense = from_config(QWEN3_8B)
    full, lora, four_bit = (peak(dense, Work("sft", adapter)) for adapter in ("none", "lora", "qlora"))
    assert full.optimizer == dense.parameters * 8 and lora.optimizer == dense.lora_parameters(16) * 8
    assert lora.weights > 2.5 * four_bit.weights
    small_states = [peak(dense, Work("sft", optim=kind)).optimizer for kind in ("paged_adamw_8bit", "adafactor")]
    assert full.optimizer > 3 * small_states[0] > 9 * small_states[1] > 0
    assert (
        peak(dense, Work("dpo")).reference == dense.parameters * 4 and peak(dense, Work("dpo", "lora")).reference == 0
    )
    small, large = (from_config(QWEN3_06B | {"vocab_size": size}) for size in (8_000, 32_000))
    cpu = Work("sft", "lora", precision="fp32", device="cpu")
    assert peak(large, cpu).head > 3 * peak(small, cpu).head
    eager = peak(dense, Work("sft", "lora", length=4096, attention="eager"))
    assert eager.activations > 2 * peak(dense, Work("sft", "lora", length=4096)).activations
    assert peak(dense, Work("sft", checkpointing=True)).activations < full.activations / 4
    assert peak(dense, Work("grpo", "lora", generations=8, batch=8, completion=512)).cache > 8 * 0.1 * GB
    spread = peak(dense, Work("sft", gpus=8))
    assert spread.optimizer == full.optimizer / 8 and spread.activations == full.activations


def test_four_bits_do_not_shrink_fused_experts() -> None:
    model = from_config(QWEN3_30B)
    assert peak(model, Work("sft", "qlora")).weights > model.expert_parameters * 2


def test_more_work_per_token_is_slower_and_the_range_is_one() -> None:
    model, card = from_config(QWEN3_8B), Offer("a", "hf-jobs", 8, 99, "A100", 1, 80)
    base = tokens_per_second(model, Work("sft", batch=8), card)
    assert 0 < base.low < base.high
    for slower in (Work("sft", batch=8, checkpointing=True), Work("dpo", batch=8), Work("sft", "qlora", batch=8)):
        assert (
            tokens_per_second(model, slower, card).high
            < tokens_per_second(model, Work("sft", "lora", batch=8), card).high
        )
    moe = tokens_per_second(from_config(QWEN3_30B), Work("sft", batch=8), card)
    assert moe.low > base.low  # a third of the parameters are at work


def test_the_cpu_rate_agrees_with_the_step_that_was_measured() -> None:
    """0.6B, LoRA, 256 tokens, two cores: 6.3 s a step."""
    rate = tokens_per_second(
        from_config(QWEN3_06B), Work("sft", "lora", length=256, precision="fp32"), Offer("here", "local", 2, 24)
    )
    assert rate.low < 256 / 6.3 < rate.high


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_estimate_is_near_the_measured_peak_of_a_real_training() -> None:
    from benchmarks.memory import Case, measure

    case = Case("kto full", "kto", 0, 4, 256, hidden=256, layers=6, vocab=16_000)
    measured = measure(case)
    assert peak(from_config(case.config()), case.work()).total == pytest.approx(measured, rel=0.2)


def everywhere(model: Model, work: Work) -> list[Fit]:
    with inside(Context(offline=True)):
        return fit.marked([fit.on(model, work, Load(3_000, 512, 16), one, set()) for one in jobs_offers()[0]])


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name
