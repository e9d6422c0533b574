"""What the recipes for training understand, what they write, and that they stop where a tool refuses."""

import pytest

from agent.models.errors import ModelError
from agent.models.recipes import RECIPES, Recipes

UNDERSTOOD = {
    "fine-tune Qwen3-0.6B on open-r1/codeforces-cots": ("train", "Qwen3-0.6B", "open-r1/codeforces-cots"),
    "Please fine-tune Qwen/Qwen3-0.6B on my-data.jsonl.": ("train", "Qwen/Qwen3-0.6B", "my-data.jsonl"),
    "train the model ./tiny on my dataset ./d.jsonl": ("train", "./tiny", "./d.jsonl"),
    "DPO Qwen/Qwen3-0.6B on prefs.parquet": ("train", "Qwen/Qwen3-0.6B", "prefs.parquet"),
    "train a classifier from Qwen/Qwen3-0.6B on labels.csv": ("train", "Qwen/Qwen3-0.6B", "labels.csv"),
    "train an object detector from hustvl/yolos-tiny on ./boxes": ("train", "hustvl/yolos-tiny", "./boxes"),
    "train an image classifier from google/vit on ./pets": ("train", "google/vit", "./pets"),
    "train embeddings from sentence/minilm on pairs.jsonl": ("train", "sentence/minilm", "pairs.jsonl"),
    "what hardware and cost for Qwen/Qwen3-8B?": ("cost", "Qwen/Qwen3-8B", None),
    "what hardware do I need to fine-tune Qwen/Qwen3-8B on d.jsonl?": ("cost", "Qwen/Qwen3-8B", "d.jsonl"),
    "check if my-data.jsonl works for DPO": ("check data", None, "my-data.jsonl"),
    "does data.csv fit for sft?": ("check data", None, "data.csv"),
    "compare runs a-sft-1 and b-sft-2": ("compare runs", None, None),
    "continue run a-sft-1": ("resume", None, None),
    "how is run a-sft-1": ("status", None, None),
    "describe data.csv": ("describe data", None, None),
    "tell me about Qwen/Qwen3-0.6B": ("details", None, None),
}


@pytest.mark.parametrize("sentence", UNDERSTOOD)
def test_sentences_are_understood(sentence: str) -> None:
    recipe = next(recipe for recipe in RECIPES if recipe.pattern.search(sentence))
    found = recipe.pattern.search(sentence)
    assert found
    named = found.groupdict()
    assert (recipe.name, named.get("model"), named.get("data")) == UNDERSTOOD[sentence]


def said(task: str, *outputs: str) -> str:
    messages = [{"role": "user", "content": f"Task:\n{task}"}]
    messages += [{"role": "user", "content": f"Output:\n{output}"} for output in outputs]
    return Recipes().generate(messages).text


def test_numbers_and_limits_of_the_sentence_reach_the_plan() -> None:
    task = "fine-tune Qwen3-0.6B on d.jsonl with DPO for 2 epochs, lr 1e-5, batch size 4, within 30 min, at most $5"
    text = said(task, "ok")
    assert "plan_training('Qwen/Qwen3-0.6B', data, method='dpo'" in text
    assert "max_minutes=30, max_usd=5, " in text
    known = {"num_train_epochs": 2.0, "learning_rate": 1e-5, "per_device_train_batch_size": 4}
    assert f"overrides={known!r}" in text


def test_the_steps_follow_one_another_to_the_report() -> None:
    task = "fine-tune Qwen/Qwen3-0.6B on d.jsonl"
    calls = ["inspect_dataset(", "plan_training(", "write_training_script(", "preflight(", "start_run(", "run_status("]
    for number, call in enumerate(calls):
        assert call in said(task, *["ok"] * number)
    begun = ["ok"] * 5
    assert "run_status(" in said(task, *begun, "x: step 3 of 9\nWATCHED: it goes on")
    assert "final_answer(write_report(run))" in said(task, *begun, "WATCHED: it goes on", "WATCHED: over, failed")
    assert "run_status(" in said("resume run a-1", "a-1: running")


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_where_a_tool_refuses_the_turn_fails_with_its_words_and_nothing_follows(step: int) -> None:
    refused = "Traceback (most recent call last):\n  …\nToolError: 'd.jsonl' has no usable rows."
    with pytest.raises(ModelError, match="has no usable rows"):
        said("fine-tune Qwen/Qwen3-0.6B on d.jsonl", *["ok"] * (step - 1), refused)


def test_data_that_one_row_would_stop_is_prepared_before_it_is_planned_with() -> None:
    text = said("fine-tune tiny on d.csv with DPO")
    assert "inspect_dataset('d.csv', method='dpo', tokenizer='tiny')" in text
    assert text.index("data = 'd.csv'") < text.index('if audit["prepare_first"]:') < text.index('prepared["folder"]')
