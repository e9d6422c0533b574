"""Small data for every method, plans for it, and the running of a generated script as a person would run it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.tiny_model import tiny_model
from tools.context import Context, Detached, Ended, inside
from tools.runs import run_status
from tools.training import digest, write_training_script

ROWS = 60
TASK_TYPES = {"reward": "SEQ_CLS", "sequence-classification": "SEQ_CLS", "token-classification": "TOKEN_CLS"}
TASK_TYPES["embeddings"] = "FEATURE_EXTRACTION"


def rows_for(method: str) -> list[dict[str, Any]]:
    """Sums, as rows of the method's shape; the same ones every time."""
    return [row_for(method, *random.Random(i).choices(range(10), k=2)) for i in range(ROWS)]


def row_for(method: str, a: int, b: int) -> dict[str, Any]:
    question, right, wrong = f"What is {a} plus {b}?", f"The answer is {a + b}.", f"It is {a + b + 1}, I guess."
    user, said = [{"role": "user", "content": question}], [{"role": "assistant", "content": right}]
    other = [{"role": "assistant", "content": wrong}]
    match method:
        case "sft":
            return {"messages": user + said}
        case "dpo" | "reward":
            return {"prompt": user, "chosen": said, "rejected": other}
        case "kto":
            return {"prompt": user, "completion": said if a % 2 else other, "label": bool(a % 2)}
        case "grpo" | "rloo" | "distillation":
            return {"prompt": user, "answer": str(a + b)}
        case "cpt":
            return {"text": f"{question} {right}"}
        case "sequence-classification":
            return {"text": question, "label": "big" if a + b > 9 else "small"}
        case "token-classification":
            return {"tokens": question.split(), "tags": ["O", "O", "N", "O", "N"]}
        case "embeddings":
            return {"anchor": question, "positive": right}
    raise ValueError(method)


REWARD = '''

def reward(completions, answer, **_):
    """The more digits the better: a signal even from a model that knows nothing."""
    texts = [text[-1]["content"] for text in completions]
    return [sum(one.isdigit() for one in text) / 10 + len(text) / 100 for text in texts]
'''


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plan_for(method: str, data: Path, **changes: Any) -> dict[str, Any]:
    """A plan for a few steps on a CPU. Changes are merged into its parts."""
    lora = {"kind": "lora", "r": 4, "alpha": 8}
    if method in TASK_TYPES:
        lora["task_type"] = TASK_TYPES[method]
    if method in ("reward", "sequence-classification", "token-classification"):
        lora["modules_to_save"] = ["score"]
    hyper: dict[str, Any] = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "max_steps": 4}
    hyper |= {"logging_steps": 1, "eval_steps": 2, "max_length": 128}
    if method in ("sft", "cpt"):
        hyper |= {"packing": True, "assistant_only_loss": method == "sft"}
    if method in ("grpo", "rloo", "distillation"):
        hyper |= {"max_completion_length": 8}
    if method in ("grpo", "rloo"):
        hyper |= {"num_generations": 4}
    mapping = "def to_rows(row):\n    return [row]\n" + (REWARD if method in ("grpo", "rloo") else "")
    plan: dict[str, Any] = {
        "method": method,
        "model": {"id": str(tiny_model()), "parameters": 2_886_912},
        "dataset": {"id": str(data), "mapping": mapping},
        "adapter": lora if method != "cpt" else {"kind": "none"},
        "hyper": hyper,
        "eval": {"share": 0.2},
        "hardware": {"where": "local", "name": "cpu", "device": "cpu"},
        "limits": {"minutes": 5},
    }
    if method == "distillation":
        plan["model"]["teacher"] = str(other_model(data.parent / "teacher"))
    for part, values in changes.items():
        plan[part] = plan[part] | values if isinstance(values, dict) else values
    return plan


def other_model(folder: Path) -> Path:
    """The tiny model with other weights: a teacher that says something else."""
    if not folder.exists():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(1)
        config = AutoModelForCausalLM.from_pretrained(tiny_model()).config
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_model()).save_pretrained(folder)
    return folder


def written(home: Path, plan: dict[str, Any], run: str = "one") -> Path:
    """The run folder of a plan's script."""
    with inside(Context(home=home)):
        return Path(write_training_script(plan, run)["folder"])


def start(folder: Path, **envs: str) -> subprocess.Popen[str]:
    """The script as its own process, from a folder that is not its own, with nothing of ours on the path."""
    known = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(folder.parent / "cache")}
    command = [sys.executable, "-u", str(folder / "train.py")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd="/", env={**os.environ, **known, **envs}, text=True, **pipes)


def trained(folder: Path, expected: int = 0, **envs: str) -> str:
    process = start(folder, **envs)
    try:
        output, _ = process.communicate(timeout=400)
    finally:
        process.kill()  # where the time ran out it would train on
    assert process.returncode == expected, output[-6000:]
    return output


def stop_when(folder: Path, process: subprocess.Popen[str], sign: str) -> str:
    """Read the output until `sign` is in it, then SIGTERM, then the rest."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if sign in line:
            process.send_signal(signal.SIGTERM)
            break
    rest, _ = process.communicate(timeout=200)
    return seen + rest


def until(run: str, wanted: Callable[[dict[str, Any]], Any], seconds: float = 100) -> dict[str, Any]:
    """A run's status once it is as wanted."""
    end = time.monotonic() + seconds
    while not wanted(now := run_status(run)):
        assert time.monotonic() < end and not now["over"], now
        time.sleep(0.2)
    return now


def as_if_good(folder: Path) -> None:
    """What a passed preflight of the script as it is leaves."""
    passed = {"passed": True, "digest": digest(folder / "train.py"), "findings": [], "seconds": 1.0}
    (folder / "preflight.json").write_text(json.dumps(passed))


class NoWall:
    """In place of the jail, where a test is about a script's faults and the wall around it would only cost time."""

    def run(
        self, folder: Path, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, **_: Any
    ) -> Ended:
        environment = {**os.environ, **(env or {})}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
        return Ended("exited", done.returncode, 0.0, done.stdout + done.stderr)

    def detached(self, folder: Path, command: Sequence[str], **_: Any) -> Detached:
        raise AssertionError("nothing is trained without the wall")


def told(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())
