"""What `make demo` trains: a tiny Qwen3 that knows nothing, and phrases with words of an invented language.

    python examples/demo.py FOLDER

writes FOLDER/tiny-qwen3 (config, random weights, tokenizer, Qwen3's chat template) and FOLDER/phrases.jsonl, the same
each time: the seed is fixed and nothing is downloaded. The words are invented, so no model knows them beforehand.
"""

import json
import random
import sys
from pathlib import Path

SEED = 7
WORDS = (
    "anchor", "bear", "bread", "cloud", "falcon", "friend", "harbour", "moon", "oak", "river", "ship", "star", "tower",
)  # fmt: skip
SYLLABLES = (
    "ar",
    "bel",
    "dor",
    "fen",
    "gal",
    "hul",
    "ira",
    "kor",
    "lum",
    "mar",
    "nol",
    "ost",
    "pel",
    "run",
    "sil",
    "tav",
)
QUESTIONS = (
    "Translate: {}", "In English: {}", "What does this mean: {}", "Explain the word {}", "Look up {}",
    "I found this in an old letter: {}", "What is the English word for {}", "She said {}", "The sign says {}",
    "Tell me what they call {}", "My friends call me {}", "The song begins with {}",
)  # fmt: skip
SPECIAL = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]


def language() -> dict[str, str]:
    """A word of the invented language for each of ours."""
    draw = random.Random(SEED)
    names = draw.sample([one + other for one in SYLLABLES for other in SYLLABLES if one != other], len(WORDS))
    return dict(zip(names, WORDS, strict=True))


def rows() -> list[dict]:
    pairs = [(asked.format(name), f"{word}, in English.") for name, word in language().items() for asked in QUESTIONS]
    random.Random(SEED).shuffle(pairs)
    told = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in pairs]
    return [{"messages": messages} for messages in told]


def write_model(folder: Path) -> None:
    import torch
    import trl
    from transformers import GenerationConfig, Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(SEED)
    texts = [turn["content"] for row in rows() for turn in row["messages"]]
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(texts, 900, show_progress=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens(SPECIAL)
    tokenizer.eos_token = "<|im_end|>"
    # TRL knows a family of models by the exact text of its template
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    eos, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    ids = {"bos_token_id": pad, "eos_token_id": eos, "pad_token_id": pad}
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "max_position_embeddings": 1024}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64, "tie_word_embeddings": True}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=1024, **sizes, **heads, **ids))
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows())
    (folder / "phrases.jsonl").write_text(lines, encoding="utf-8")
    write_model(folder / "tiny-qwen3")
    print(f"{folder / 'tiny-qwen3'}: a Qwen3 of random weights\n{folder / 'phrases.jsonl'}: {len(rows())} phrases")


if __name__ == "__main__":
    main()
