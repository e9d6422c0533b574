"""Time per useful token of our SFT script beside a plain TRL script with the settings published templates have.

`python -m benchmarks.training [rows]`. Both train all weights of the same tiny model on the same chats, one epoch, one
thread, each in a process of its own; useful are the tokens the loss counts, the assistant's. Only the trainer's own
time is taken, not imports and tokenising.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.table import Row, show
from tests.tiny_model import tiny_model
from tools.context import Context, inside
from tools.training import write_training_script

ROOT = Path(__file__).parents[1]
ROWS, MAX_LENGTH, BATCH = 100, 1024, 4
PADDED = "TRL, padded to max_length"
TRIMMED = "TRL's defaults"
PLAIN = """
import json, sys
from datasets import load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer
model, data, padded = sys.argv[1], sys.argv[2], sys.argv[3] == "padded"
max_length, batch, folder = int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
tokenizer = AutoTokenizer.from_pretrained(model)
args = SFTConfig(
    output_dir=folder, num_train_epochs=1, per_device_train_batch_size=batch, learning_rate=2e-5, max_length=max_length,
    assistant_only_loss=True, packing=False, pad_to_multiple_of=max_length if padded else None, save_strategy="no",
    gradient_checkpointing=True, use_cpu=True, bf16=False, report_to="none", disable_tqdm=True,
)
rows = load_dataset("json", data_files=data, split="train", cache_dir=folder)
trainer = SFTTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
print(json.dumps(trainer.train().metrics))
"""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def write(path: Path, rows: int) -> None:
    """Chats whose lengths spread as those of public chat data do: many short ones, a few near the limit."""
    draw = random.Random(5)
    words = ["import", "return", "self", "What is", "plus", "the answer", "value", "for", "in", "None", "True", "def"]
    with path.open("w") as file:
        for _ in range(rows):
            length = min(400, int(draw.lognormvariate(3.9, 0.9)))
            asked, said = (" ".join(draw.choices(words, k=max(3, part))) for part in (length // 3, length))
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
            file.write(json.dumps({"messages": turns}) + "\n")


def useful(path: Path) -> int:
    """Tokens of the assistant's turns, with the end of the turn."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    chats = [json.loads(line)["messages"] for line in path.open()]
    return sum(len(tokenizer(turn["content"])["input_ids"]) + 1 for chat in chats for turn in chat[1::2])


def ours(home: Path, data: Path) -> float:
    plan = {
        "method": "sft",
        "model": {"id": str(tiny_model()), "parameters": 2_886_912},
        "dataset": {"id": str(data)},
        "adapter": {"kind": "none"},
        "hyper": {
            "learning_rate": 2e-5, "per_device_train_batch_size": 1, "max_length": MAX_LENGTH, "packing": True,
            "assistant_only_loss": True, "eval_steps": 100_000,
        },
        "hardware": {"where": "local", "name": "cpu", "device": "cpu"},
        "limits": {"minutes": 30},
    }  # fmt: skip
    with inside(Context(home=home)):
        folder = Path(write_training_script(plan, "ours")["folder"])
    script = folder / "train.py"  # every row is trained on, as in the other script
    script.write_text(
        script.read_text().replace("EVAL_SPLIT, EVAL_SHARE = None, 0.05", "EVAL_SPLIT, EVAL_SHARE = None, None")
    )
    run([sys.executable, str(script)], {"HF_DATASETS_CACHE": str(home / "cache")})
    return json.loads((folder / "result.json").read_text())["metrics"]["train_runtime"]


def plain(home: Path, data: Path, how: str) -> float:
    script = home / "plain.py"
    script.write_text(PLAIN)
    numbers = [str(MAX_LENGTH), str(BATCH), str(home / how)]
    output = run([sys.executable, str(script), str(tiny_model()), str(data), how, *numbers], {})
    return json.loads(output.splitlines()[-1])["train_runtime"]


def run(command: list[str], more: dict[str, str]) -> str:
    environment = {**os.environ, **ENVIRONMENT, **more}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr[-3000:])
    return ended.stdout


def main(rows: int = ROWS) -> int:
    with tempfile.TemporaryDirectory(prefix="bench-training-") as place:
        home = Path(place)
        data = home / "chats.jsonl"
        write(data, rows)
        tokens = useful(data)
        mine, padded, trimmed = ours(home, data), plain(home, data, "padded"), plain(home, data, "trimmed")
    speed = f"{tokens / mine:.0f} useful tokens/s against"
    return show(
        "training",
        [
            Row("SFT: time per useful token", mine / padded, "x", 0.5, PADDED, f"{speed} {tokens / padded:.0f}"),
            Row("SFT: time per useful token", mine / trimmed, "x", 1.0, TRIMMED, f"{speed} {tokens / trimmed:.0f}"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
