"""A tiny random Qwen3 with its tokenizer and chat template, made without a download and once per machine.

2.9 million parameters, shaped so that llama.cpp and the GGUF reader of transformers take it too. It knows nothing.
"""

import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

PLACE = Path(tempfile.gettempdir()) / f"modelsmith-tests-{os.getuid()}" / "tiny-qwen3-1"
SPECIAL = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]


def tiny_model() -> Path:
    """The folder of the model; two processes that make it at once do not disturb each other."""
    if (PLACE / "model.safetensors").exists():
        return PLACE
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=PLACE.parent))
    build(made)
    try:
        made.rename(PLACE)
    except OSError:
        shutil.rmtree(made)  # another process was faster
    return PLACE


def build(folder: Path) -> None:
    import torch
    import trl
    from transformers import GenerationConfig, Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    corpus = [f"What is {a} plus {b}? The answer is {a + b}." for a in range(60) for b in range(60)]
    sources = sorted(Path(random.__file__).parent.glob("*.py"))[:80]
    corpus += [path.read_text(errors="ignore")[:20_000] for path in sources]
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(corpus, 1900, show_progress=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens(SPECIAL)
    tokenizer.eos_token = "<|im_end|>"
    # TRL knows a model family by the exact text of its template
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    eos, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    ids: dict[str, Any] = {"bos_token_id": pad, "eos_token_id": eos, "pad_token_id": pad}
    sizes: dict[str, Any] = {"vocab_size": 2048, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 128}
    config = Qwen3Config(**sizes, **heads, max_position_embeddings=2048, tie_word_embeddings=True, **ids)
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
