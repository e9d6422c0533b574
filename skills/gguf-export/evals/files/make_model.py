"""Makes ./model, a very small random Qwen3 with a tokenizer, and ./adapter, a LoRA for it. Nothing is downloaded."""

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

torch.manual_seed(0)
bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
bpe.train_from_iterator(["one two three four five"] * 10, trainer)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ids = {"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 0}
sizes = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 32}
config = Qwen3Config(
    **sizes, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True, **ids
)
model = Qwen3ForCausalLM(config)
model.generation_config = GenerationConfig(**ids)
model.save_pretrained("model")
tokenizer.save_pretrained("model")
adapted = get_peft_model(
    model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
)
adapted.peft_config["default"].base_model_name_or_path = "model"
adapted.save_pretrained("adapter")
