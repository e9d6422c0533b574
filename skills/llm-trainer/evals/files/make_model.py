"""Makes ./tiny, a very small random Qwen3 with a tokenizer and Qwen's chat template. Nothing is downloaded."""

from pathlib import Path

import torch
import trl
from transformers import GenerationConfig, Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

torch.manual_seed(0)
tokenizer = Qwen2Tokenizer().train_new_from_iterator(["What is one plus two? It is three."] * 50, 400)
tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
tokenizer.eos_token = "<|im_end|>"
tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
eos, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
ids = {"bos_token_id": pad, "eos_token_id": eos, "pad_token_id": pad}
sizes = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 32}
config = Qwen3Config(
    **sizes, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True, **ids
)
model = Qwen3ForCausalLM(config)
model.generation_config = GenerationConfig(**ids)
model.save_pretrained("tiny")
tokenizer.save_pretrained("tiny")
