"""A tiny random Qwen3, built here, answering in this process. What it says is noise; how it is run is what counts."""

import json
import random
import threading
import time
from pathlib import Path

import pytest
from fake_server import until

from agent.errors import UserError
from agent.models import errors
from agent.models.resolve import resolve

ASK = [{"role": "system", "content": "hm"}, {"role": "user", "content": "What is 1 plus 1?"}]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    from transformers import GenerationConfig, Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

    path = tmp_path_factory.mktemp("models") / "tiny-qwen3"
    corpus = [f"What is {a} plus {b}? It is {a + b}." for a in range(30) for b in range(30)]
    corpus += [
        file.read_text(errors="ignore")[:5000] for file in sorted(Path(random.__file__).parent.glob("*.py"))[:20]
    ]
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(corpus, 800, show_progress=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token, tokenizer.chat_template = "<|im_end|>", TEMPLATE
    eos, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    ids = {"bos_token_id": pad, "eos_token_id": eos, "pad_token_id": pad}
    network = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=1024,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=32,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            **ids,
        )
    )
    network.generation_config = GenerationConfig(**ids)
    network.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    import torch

    torch.set_num_threads(1)
    choice = resolve(f"transformers/{folder}", offline=True)
    assert choice.kind == "transformers"
    return choice.model


def outcome(model, **options):
    """A random model may end in any true way: give the reply of all of them."""
    try:
        return model.generate(ASK, **options)
    except errors.ModelError as error:
        return error.reply


def test_it_streams_what_it_then_returns_and_counts_its_tokens(model):
    heard: list[str] = []
    model.max_tokens = 60
    reply = outcome(model, on_delta=lambda kind, piece: heard.append(piece), stop_at=None)
    assert len(heard) > 3 and "".join(heard) == reply.text + reply.reasoning
    assert 0 < reply.usage.completion <= 60 and not reply.usage.estimated and reply.usage.prompt > 10
    assert model.window == 1024


def test_reaching_the_token_limit_is_a_truncated_answer(model):
    model.max_tokens = 2
    with pytest.raises(errors.Truncated):
        for _ in range(20):  # a random model may end by itself within two tokens
            model.generate(ASK, stop_at=None)


def test_a_string_to_stop_at_stops_it(model):
    model.max_tokens = 400
    letters = list("aeiou ")
    reply = outcome(model, stop_at=letters)
    assert reply.finish == "cut" and not set(reply.text) & set(letters)
    assert reply.usage.completion < 400, "the rest is not generated"


def test_cancel_ends_it_within_a_second(model):
    model.max_tokens = 900
    cancel, heard, ended = threading.Event(), [], []

    def call() -> None:
        try:
            for _ in range(50):
                outcome_or_cancel()
        except errors.Cancelled:
            ended.append(time.monotonic())

    def outcome_or_cancel() -> None:
        try:
            model.generate(ASK, on_delta=lambda kind, piece: heard.append(piece), cancel=cancel, stop_at=None)
        except (errors.Truncated, errors.EmptyAnswer):
            pass

    thread = threading.Thread(target=call)
    thread.start()
    assert until(lambda: len(heard) > 2, 20)
    begin = time.monotonic()
    cancel.set()
    thread.join(5)
    assert ended and ended[0] - begin < 1


def test_a_prompt_beyond_the_window_is_an_overflow(model):
    with pytest.raises(errors.Overflow) as caught:
        model.generate([{"role": "user", "content": "a b " * 3000}])
    assert caught.value.window == 1024 and caught.value.prompt > 1024


def test_a_folder_that_is_no_model_is_the_persons_mistake(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such thing"}))
    with pytest.raises(UserError, match="cannot be loaded"):
        _ = resolve(f"transformers/{tmp_path}", offline=True).model


def test_a_model_without_a_chat_template_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="no chat template"):
        _ = resolve(f"transformers/{tmp_path}", offline=True).model
