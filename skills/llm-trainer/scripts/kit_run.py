"""What every training script of this folder shares: the run's folder, its watch, its files and its honest end.

Nothing here knows a method. What a run leaves lies in RUN: result.json, eval.json, progress.json, alerts.jsonl,
metrics/, checkpoints/.
"""

# ruff: noqa: E402

import json
import math
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

HERE = Path(sys.argv[0]).resolve().parent
RUN = Path(os.environ.get("RUN_FOLDER") or (HERE if (HERE / "plan.json").exists() else "run")).resolve()
REHEARSAL = os.environ.get("MODELSMITH_PREFLIGHT") == "1"  # two steps of a shrunk model on a few rows, nothing tracked
MAIN = os.environ.get("RANK", "0") == "0"  # under `accelerate launch` only one process writes
CANCELLED = 130  # exit code of a run that was stopped from outside and left a checkpoint

# Libraries read these when they are imported, so they are set before.
os.environ.setdefault("TRACKIO_DIR", str(RUN / "metrics"))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait slow a busy CPU down ten times
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from transformers import EarlyStoppingCallback, TrainerCallback


class Fault(Exception):
    """Something a person can mend: the check that found it, what is wrong, what to do."""

    def __init__(self, check, what, mend):
        super().__init__(f"{what} {mend}")
        self.check, self.what, self.mend = check, what, mend


class Stopped(BaseException):
    """SIGTERM or Ctrl-C outside the training loop, where no checkpoint is due."""


# -- the run and its end --


class Outcome:
    """The record of a run in result.json, true at every moment: running, succeeded, failed or cancelled."""

    def __init__(self):
        self.path, self.stop, self.training = RUN / "result.json", threading.Event(), False
        self.told = {"status": "running", "steps": 0, "planned_steps": None, "metrics": {}, "facts": {}}
        self.started = time.time()

    def note(self, **facts):
        self.told["facts"] |= facts
        self.write()

    def write(self, **more):
        self.told |= more | {"seconds": round(time.time() - self.started, 1), "peak_memory_mb": peak_memory_mb()}
        if MAIN:
            write_json(self.path, self.told)

    def on_signal(self, number, frame):
        self.stop.set()
        if not self.training:  # inside the loop the watch stops after the step, with a checkpoint
            raise Stopped

    def check(self):
        if self.stop.is_set():
            raise Stopped


outcome = Outcome()


def run(main):
    """Run `main` to a true end: exit code 0 succeeded, 1 failed, 130 cancelled."""
    RUN.mkdir(parents=True, exist_ok=True)
    outcome.note(memory_at_start_mb=peak_memory_mb())
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, outcome.on_signal)
    outcome.write()
    try:
        main()
    except Stopped:
        outcome.write(status="cancelled", checkpoint=str(last_checkpoint() or "") or None)
        print(f"cancelled after {outcome.told['steps']} of {outcome.told['planned_steps']} steps", flush=True)
        sys.exit(CANCELLED)
    except BaseException as error:
        kind = error.check if isinstance(error, Fault) else type(error).__name__
        mend = error.mend if isinstance(error, Fault) else None
        outcome.write(status="failed", error={"kind": kind, "text": str(error)[:2000], "mend": mend})
        if not isinstance(error, Fault):
            traceback.print_exc()
        print(f"failed: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    outcome.write(status="succeeded")
    print(f"succeeded: {outcome.told['steps']} steps in {outcome.told['seconds']} s, see {outcome.path}", flush=True)


def write_json(path, value):
    """Whole or not at all: a reader never sees half a file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
    part.replace(path)


def peak_memory_mb():
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# -- the watch --


class Watch(TrainerCallback):
    """Speed and memory into every log line, progress for whoever looks on, alerts on divergence, and the stop."""

    def __init__(self):
        self.losses, self.flat, self.mark = [], 0, (time.time(), 0)
        self.rewards, self.seen, self.last = [], set(), {}

    def on_train_begin(self, args, state, control, **more):
        outcome.training, self.began = True, (time.time(), state.global_step)
        self.mark = (time.time(), None if state.global_step else 0)  # a resumed run's counter does not begin at 0
        outcome.told["planned_steps"] = state.max_steps

    def on_step_end(self, args, state, control, **more):
        outcome.told["steps"] = state.global_step
        if outcome.stop.is_set():
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **more):
        outcome.training = False

    def on_log(self, args, state, control, logs=None, **more):
        if not logs or "train_runtime" in logs:
            return
        now = time.time()
        tokens = logs.get("num_tokens", logs.get("num_input_tokens_seen"))
        if tokens is not None and "loss" in logs:
            if self.mark[1] is not None:
                logs["tokens_per_second"] = round((tokens - self.mark[1]) / max(1e-6, now - self.mark[0]), 1)
            self.mark = (now, tokens)
        logs["memory_mb"] = peak_memory_mb()
        if "loss" in logs:
            self.judge(logs, state, control)
        if MAIN and state.max_steps:
            done = state.global_step - self.began[1]
            left = (now - self.began[0]) / done * (state.max_steps - state.global_step) if done else None
            told = {
                "step": state.global_step,
                "of": state.max_steps,
                "eta_seconds": None if left is None else round(left),
            }
            self.last |= {key: logs[key] for key in logs if is_number(logs[key])}
            write_json(RUN / "progress.json", told | self.last)

    def judge(self, logs, state, control):
        loss, norm = float(logs["loss"]), float(logs.get("grad_norm", 0))
        if not math.isfinite(loss):
            outcome.told["diverged"] = f"the loss is {loss} at step {state.global_step}"
            control.should_training_stop = True
            return alert("ERROR", "loss is not a number", outcome.told["diverged"], state.global_step)
        self.losses.append(loss)
        recent, best = mean(self.losses[-5:]), min(self.losses)
        if "reward" not in logs and len(self.losses) > 10 and recent > 1.5 * best + 0.5:
            text = f"mean of five is {recent:.3g}, the best was {best:.3g}; lower the learning rate"
            self.once("loss rises", text, state)
        if not math.isfinite(norm) or norm > 1000:
            self.once("gradient norm", f"it is {norm:.3g}; lower the learning rate or clip harder", state)
        if "reward" in logs:
            self.judge_reward(logs, state)

    def judge_reward(self, logs, state):
        reward = float(logs["reward"])
        if math.isfinite(reward):
            self.rewards.append(reward)
        same = float(logs.get("frac_reward_zero_std", 0))
        self.flat = self.flat + 1 if same >= 0.95 or not math.isfinite(reward) else 0
        if self.flat == 5:
            self.once("no reward signal", "all answers to a prompt get the same reward, so nothing is learned", state)
        if len(self.rewards) > 15 and mean(self.rewards[-5:]) < 0.5 * max(mean(self.rewards[:5]), 1e-9):
            text = f"it fell from {mean(self.rewards[:5]):.3g} to {mean(self.rewards[-5:]):.3g}"
            self.once("reward collapse", text, state)

    def once(self, title, text, state):
        if title not in self.seen:
            self.seen.add(title)
            alert("WARN", title, text, state.global_step)


def alert(level, title, text, step=0):
    print(f"{level}: {title}: {text} (step {step})", file=sys.stderr, flush=True)
    if not MAIN or REHEARSAL:
        return
    with open(RUN / "alerts.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"level": level, "title": title, "text": text, "step": step, "at": time.time()}) + "\n")
    if "trackio" in sys.modules and outcome.training:
        import trackio

        trackio.alert(title, text=text, level=trackio.AlertLevel[level])


def mean(values):
    return sum(values) / len(values)


def is_number(value):
    return isinstance(value, int | float) and math.isfinite(value)


# -- train, save --


def last_checkpoint():
    """The newest complete one: a run killed while it wrote leaves a folder without trainer_state.json."""
    found = [path for path in (RUN / "checkpoints").glob("checkpoint-*") if (path / "trainer_state.json").exists()]
    return max(found, key=lambda path: int(path.name.split("-")[1]), default=None)


def train(trainer, patience=None):
    """Train to the end, from the last checkpoint when there is one. A stop from outside leaves a checkpoint."""
    trainer.callback_handler.callbacks.insert(0, Watch())  # first, so that the trackers log what it adds
    if patience and trainer.args.load_best_model_at_end:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=patience))
    rows = getattr(trainer, "train_dataset", None)
    if rows is not None and len(rows) == 0:
        what = "No row has a token left to learn from after masking and cutting."
        raise Fault("labels", what, "Check roles, chat template and max_length.")
    if not any(one.requires_grad for one in trainer.model.parameters()):
        raise Fault("lora", "No parameter would be trained.", "Check the adapter's target modules.")
    outcome.note(trained_parameters=sum(one.numel() for one in trainer.model.parameters() if one.requires_grad))
    checkpoint = last_checkpoint()
    try:
        told = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        outcome.training = False
        outcome.told["steps"], outcome.told["planned_steps"] = trainer.state.global_step, trainer.state.max_steps
    outcome.write(metrics=told.metrics, log=[row for row in trainer.state.log_history if "loss" in row][-50:])
    if "diverged" in outcome.told:
        what = f"Training diverged: {outcome.told['diverged']}."
        raise Fault("nan", what, "Lower the learning rate; look at the data.")
    outcome.check()  # stopped from outside: the checkpoint is written, the rest is not due
    if REHEARSAL:  # a checkpoint that cannot be resumed is no checkpoint
        trainer.args.max_steps = 3
        trainer.train(resume_from_checkpoint=str(last_checkpoint()))
        outcome.note(resumed=trainer.state.global_step == 3)
    outcome.told["stopped_early"] = trainer.state.global_step < trainer.state.max_steps


def save(trainer, tools, auto, merge=True):
    """The trained model as folders that load by themselves: the adapter, and the whole model with it merged in."""
    model, folder = trainer.model, RUN / "model"
    if hasattr(model, "peft_config"):
        trainer.save_model(str(RUN / "adapter"))
        tools.save_pretrained(RUN / "adapter")
        outcome.write(adapter=str(RUN / "adapter"))
        if not merge or getattr(model, "is_quantized", False):  # four bits would lose by merging
            return
        model = model.merge_and_unload()
        if MAIN:
            model.save_pretrained(folder)
    else:
        trainer.save_model(str(folder))
    tools.save_pretrained(folder)
    outcome.write(model=str(folder))
    if REHEARSAL:
        prove(auto, tools, folder)


def prove(auto, tools, folder):
    """What was saved loads again, and speaks if it can."""
    model = auto.from_pretrained(folder)
    outcome.note(reloads=True)
    if model.can_generate() and callable(tools):
        ids = tools(text="What", return_tensors="pt")
        made = model.generate(**{name: ids[name] for name in ("input_ids", "attention_mask")}, max_new_tokens=4)
        outcome.note(generates=made.shape[1] - ids["input_ids"].shape[1])


class Evaluation:
    """The same rows measured before and after, value by value, in eval.json; a resumed run keeps its baseline."""

    def __init__(self, metric, higher_is_better=True, references=()):
        self.path = RUN / "eval.json"
        self.told = {"metric": metric, "higher_is_better": higher_is_better, "rows": list(references)}
        if self.path.exists():
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            self.told |= {"before": kept["before"]} if "before" in kept and kept["rows"] == self.told["rows"] else {}

    def has(self, when):
        return when in self.told

    def record(self, when, **values):
        """Lists of equal order: one number (or None) per held-out row; `answers` may hold texts."""
        numbers = {name: [one for one in given if is_number(one)] for name, given in values.items()}
        means = {name: round(mean(given), 6) for name, given in numbers.items() if given}
        self.told[when] = {"means": means, **values}
        if MAIN:
            write_json(self.path, self.told)
        print(f"{when}: {means}", flush=True)
