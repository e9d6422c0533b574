"""The plan's memory estimate beside the measured peak of twelve small trainings on the CPU, each in a fresh process.

Measured is the highest resident memory of the process, less what it held after its imports and before the model.
Random Qwen3 models, one thread, three optimizer steps (the heap still grows in the first ones). It proves the CPU side
of the estimate in fp32; a GPU follows the same formulas in bf16 with its own allocator, and is not measured here.

    python -m benchmarks.memory [name…]
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import Row, show
from tools.hardware.memory import Work, peak
from tools.hardware.models import from_config

BAR = 0.20
STEPS = 3


@dataclass(frozen=True)
class Case:
    name: str
    method: str
    lora: int  # its rank; 0: all weights
    batch: int
    length: int
    hidden: int = 512
    layers: int = 8
    vocab: int = 32_000
    checkpointing: bool = False
    generations: int = 0
    completion: int = 0

    def config(self) -> dict[str, Any]:
        return {
            "model_type": "qwen3",
            "architectures": ["Qwen3ForCausalLM"],
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.hidden * 3,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden // 64,
            "num_key_value_heads": self.hidden // 128,
            "head_dim": 64,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 0,
        }

    def work(self) -> Work:
        return Work(
            method=self.method,
            adapter="lora" if self.lora else "none",
            rank=self.lora,
            batch=self.batch,
            length=self.length,
            checkpointing=self.checkpointing,
            generations=self.generations,
            completion=self.completion,
            precision="fp32",
            device="cpu",
        )


CASES = [
    Case("sft full", "sft", 0, 4, 512),
    Case("sft full, long", "sft", 0, 1, 2048, vocab=8_192),
    Case("sft full, small vocabulary", "sft", 0, 8, 512, hidden=256, layers=12, vocab=2_048),
    Case("sft full, checkpointing", "sft", 0, 4, 1024, checkpointing=True),
    Case("sft lora", "sft", 16, 4, 512),
    Case("sft lora, small vocabulary", "sft", 8, 8, 512, hidden=256, layers=12, vocab=2_048),
    Case("dpo full", "dpo", 0, 2, 512),
    Case("dpo lora", "dpo", 16, 4, 256, hidden=256, layers=12),
    Case("kto lora", "kto", 16, 4, 512),
    Case("reward full", "reward", 0, 2, 512),
    Case("grpo full", "grpo", 0, 8, 256, generations=8, completion=192),
    Case("grpo lora", "grpo", 16, 16, 128, hidden=256, layers=8, generations=8, completion=96),
]


def main(wanted: list[str]) -> int:
    rows = []
    for case in CASES:
        if wanted and case.name not in wanted:
            continue
        measured, guess = measure(case), peak(from_config(case.config()), case.work())
        ratio = guess.total / measured
        note = f"estimated {guess.total / 2**20:,.0f} of {measured / 2**20:,.0f} MiB: {guess.told()}"
        print(f"{case.name:<28} {ratio:5.2f}  {note}", flush=True)
        rows.append(Row(case.name, abs(ratio - 1) * 100, "%", BAR * 100, "measured peak", f"ratio {ratio:.2f}, {note}"))
    return show("memory", rows)


def measure(case: Case) -> int:
    """Bytes of the peak above the imports. The model is built by another process, so that its building is not seen."""
    with tempfile.TemporaryDirectory() as folder:
        told = json.dumps(asdict(case))
        run("build", told, folder)
        return int(run("train", told, folder).strip().splitlines()[-1])


def run(*arguments: str) -> str:
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "benchmarks.memory", *arguments]
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def build(case: Case, folder: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification

    config = Qwen3Config(**(case.config() | {"num_labels": 1}))
    kind = Qwen3ForSequenceClassification if case.method == "reward" else Qwen3ForCausalLM
    kind(config).save_pretrained(folder)
    words = {"<pad>": 0, "<end>": 1} | {f"w{at}": at for at in range(2, case.vocab)}
    plain = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)


def train(case: Case, folder: str) -> None:
    import trl
    from datasets import Dataset
    from peft import LoraConfig

    name = {"reward": "Reward"}.get(case.method, case.method.upper())
    trainer_type, config_type = getattr(trl, f"{name}Trainer"), getattr(trl, f"{name}Config")
    before = highest()
    options: dict[str, Any] = {"max_length": case.length}
    more: dict[str, Any] = {}
    if case.method == "grpo":
        limits = {"max_completion_length": case.completion, "num_generations": case.generations, "temperature": 1.0}
        options = limits | {"generation_kwargs": {"min_new_tokens": case.completion}}
        more["reward_funcs"] = lambda completions, **_: [float(len(set(text))) for text in completions]
    arguments = config_type(
        output_dir=f"{folder}/out",
        per_device_train_batch_size=case.batch,
        gradient_accumulation_steps=1,
        max_steps=STEPS,
        gradient_checkpointing=case.checkpointing,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        **options,
    )
    if case.lora:
        task: dict[str, Any] = {"task_type": "SEQ_CLS", "modules_to_save": ["score"]} if case.method == "reward" else {}
        more["peft_config"] = LoraConfig(r=case.lora, lora_alpha=2 * case.lora, target_modules="all-linear", **task)
    trainer = trainer_type(folder, args=arguments, train_dataset=Dataset.from_list(rows(case)), **more)
    trainer.train()
    print(highest() - before)


def rows(case: Case) -> list[dict[str, Any]]:
    """Enough rows of exactly the length: no padding, nothing cut."""

    def words(count: int, start: int) -> str:
        return " ".join(f"w{2 + (start + 7 * at) % (case.vocab - 2)}" for at in range(count))

    made: list[dict[str, Any]] = []
    for at in range(case.batch * STEPS):
        half = case.length // 2
        match case.method:
            case "sft":
                made.append({"text": words(case.length - 1, at)})
            case "grpo":
                made.append({"prompt": words(case.length - case.completion, at)})
            case "kto":
                label = {"label": at % 2 == 0}
                made.append({"prompt": words(half, at), "completion": " " + words(half - 1, at + 3)} | label)
            case _:
                pair = {"chosen": " " + words(half - 1, at + 3), "rejected": " " + words(half - 1, at + 5)}
                made.append({"prompt": words(half, at)} | pair)
    return made


def highest() -> int:
    """Of this program alone: getrusage's figure begins with that of whoever started it."""
    told = Path("/proc/self/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["build"]:
        build(Case(**json.loads(sys.argv[2])), sys.argv[3])
    elif sys.argv[1:2] == ["train"]:
        train(Case(**json.loads(sys.argv[2])), sys.argv[3])
    else:
        sys.exit(main(sys.argv[1:]))
