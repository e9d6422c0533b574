"""Useful tokens a second of our SFT script beside a plain TRL script with the settings that published templates have.

`python -m benchmarks.training [rows]`. Both train all weights of the same tiny model on the same chats for one epoch,
16 rows a step, one thread, each in a process of its own; useful are the assistant's tokens, which both learn alone.
Ours is the script of the plan that plan_training makes of this data. The template's settings: 4 rows at a time and 4
such passes a step, TRL's defaults otherwise (no packing, rows padded to the longest of four, activations computed anew
in the backward pass). Measured are the processor's seconds within train(), which other work on the machine disturbs
least, the better of two turns each; not imports, not tokenising.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.table import Row, show
from tests.tiny_model import tiny_model
from tools.context import Context, inside
from tools.planning import plan_training
from tools.training import write_training_script

ROOT = Path(__file__).parents[1]
ROWS, MAX_LENGTH, TURNS = 400, 1024, 2
TEMPLATE = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
DEFAULTS = {"per_device_train_batch_size": 8}
PLAIN = """
import json, sys
from datasets import load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer
model, data, folder, more = *sys.argv[1:4], json.loads(sys.argv[4])
tokenizer = AutoTokenizer.from_pretrained(model)
args = SFTConfig(
    output_dir=folder, num_train_epochs=1, learning_rate=2e-5, warmup_steps=0.1, lr_scheduler_type="cosine",
    logging_steps=10, save_steps=100, assistant_only_loss=True, use_cpu=True, bf16=False, report_to="none",
    disable_tqdm=True, **more,
)
rows = load_dataset("json", data_files=data, split="train", cache_dir=folder)
SFTTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer).train()
"""
# runs a script as it is, with a clock at its trainer
CLOCK = """
import runpy, sys, time, transformers
whole = transformers.Trainer.train
def train(self, *given, **more):
    began = time.process_time()
    told = whole(self, *given, **more)
    print("seconds", time.process_time() - began, flush=True)
    return told
transformers.Trainer.train = train
sys.argv = sys.argv[1:]
sys.path[0] = ""
runpy.run_path(sys.argv[0], run_name="__main__")
"""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


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


def script(home: Path, data: Path) -> Path:
    """Our script, with every row trained on, as in the other one."""
    overrides = {"learning_rate": 2e-5, "num_train_epochs": 1, "max_length": MAX_LENGTH, "adapter": "none"}
    with inside(Context(home=home, offline=True)):
        plan = plan_training(str(tiny_model()), str(data), "sft", hardware="local", overrides=overrides)["plan"]
        plan["hyper"] |= {"assistant_only_loss": True, "eval_steps": 100_000}
        batch, passes = plan["hyper"]["per_device_train_batch_size"], plan["hyper"]["gradient_accumulation_steps"]
        plan["hyper"]["gradient_accumulation_steps"] = 16 // batch
        print(f"our plan: {batch} rows x {passes} passes, packing {plan['hyper']['packing']}")
        made = Path(write_training_script(plan, "ours")["folder"]) / "train.py"
    shares = [line for line in made.read_text().splitlines() if line.startswith("EVAL_SPLIT, EVAL_SHARE")]
    made.write_text(made.read_text().replace(shares[0], "EVAL_SPLIT, EVAL_SHARE = None, None"))
    return made


def seconds(home: Path, program: Path, *arguments: str) -> float:
    """Processor seconds of its training."""
    environment = {**os.environ, **ENVIRONMENT, "HF_DATASETS_CACHE": str(home / "cache")}
    for name in ("result.json", "checkpoints"):  # or ours would say that it is done
        left = program.parent / name
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    command = [sys.executable, "-c", CLOCK, str(program), *arguments]
    ended = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    told = [line.split()[1] for line in ended.stdout.splitlines() if line.startswith("seconds ")]
    if ended.returncode or not told:
        raise RuntimeError(ended.stderr[-3000:])
    return float(told[0])


def main(rows: int = ROWS) -> int:
    with tempfile.TemporaryDirectory(prefix="bench-training-") as place:
        home = Path(place)
        data, plain = home / "chats.jsonl", home / "plain.py"
        write(data, rows)
        plain.write_text(PLAIN)
        tokens, ours = useful(data), script(home, data)
        given = [str(tiny_model()), str(data), str(home / "plain")]
        taken: dict[str, list[float]] = {"ours": [], "template": [], "defaults": []}
        for _ in range(TURNS):
            taken["ours"].append(seconds(home, ours))
            taken["template"].append(seconds(home, plain, *given, json.dumps(TEMPLATE)))
            taken["defaults"].append(seconds(home, plain, *given, json.dumps(DEFAULTS)))
            print({name: round(some[-1], 1) for name, some in taken.items()}, f"load {os.getloadavg()[0]:.0f}")
        best = {name: min(some) for name, some in taken.items()}
    rate = {name: tokens / one for name, one in best.items()}
    note = f"{rate['ours']:.0f} useful tokens/s against {{:.0f}}: {{:.2f}} x as many"
    return show(
        "training",
        [
            Row(
                "SFT: time per useful token",
                best["ours"] / best["template"],
                "x",
                0.5,
                "the published template's",
                note.format(rate["template"], rate["ours"] / rate["template"]),
            ),
            Row(
                "SFT: time per useful token",
                best["ours"] / best["defaults"],
                "x",
                0.5,
                "TRL's own defaults'",
                note.format(rate["defaults"], rate["ours"] / rate["defaults"]),
            ),
        ],
    )


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
