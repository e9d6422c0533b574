"""What every training script of this folder shares: the run's folder, its rows, its machine, its watch, its honest end.

`from kit_run import …` works beside this file; a script rendered for a run carries the text itself. Nothing here knows a
method. Everything a run leaves lies in RUN: result.json, eval.json, progress.json, alerts.jsonl, metrics/, checkpoints/.
"""

import importlib.util
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
REHEARSAL_ROWS = 16
MAIN = os.environ.get("RANK", "0") == "0"  # under `accelerate launch` only one process writes
CANCELLED = 130  # exit code of a run that was stopped from outside and left a checkpoint

# Libraries read these when they are imported, so they are set before.
os.environ.setdefault("TRACKIO_DIR", str(RUN / "metrics"))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait slow a busy CPU down ten times
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from transformers import EarlyStoppingCallback, TrainerCallback, set_seed


class Fault(Exception):
    """Something a person can mend: the check that found it, what is wrong, what to do."""

    def __init__(self, check, what, mend):
        super().__init__(f"{what} {mend}")
        self.check, self.what, self.mend = check, what, mend


class Stopped(BaseException):
    """SIGTERM or Ctrl-C outside the training loop, where no checkpoint is due."""


# -- the run and its end ------------------------------------------------------------------------------------------------


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


# -- rows ---------------------------------------------------------------------------------------------------------------

KINDS = {"jsonl": "json", "json": "json", "csv": "csv", "parquet": "parquet", "txt": "text", "arrow": "arrow"}


def read_rows(source, config, split):
    """The rows of a local file or folder, or of a dataset of the Hub."""
    from datasets import Dataset, load_dataset

    found = next((path for path in (Path(source), HERE / source) if path.exists()), None)
    if found is None:
        rows = load_dataset(source, config, split=split, streaming=REHEARSAL)
    else:
        kind, files = local_files(found, split)
        rows = load_dataset(kind, data_files={split: files}, split=split, streaming=REHEARSAL)
    if REHEARSAL:  # reads no further than it must, whatever the size of the data
        first = list(rows.take(REHEARSAL_ROWS * 4))
        if not first:
            raise Fault("rows", f"{source} has no rows in '{split}'.", "Name a file or split that holds some.")
        return Dataset.from_list(first, features=rows.features)
    return rows


def local_files(path, split):
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.name.split(".")[-1] in KINDS and file.is_file()]
        files = [file for file in files if "manifest" not in file.name]
        named = [file for file in files if split in file.relative_to(path).as_posix().split(".")[0]]
        others = ("train", "test", "valid", "eval", "dev")
        plain = [file for file in files if not any(word in file.name for word in others)]
        files = named or (plain if split == "train" else [])
    else:
        files = [path]
    suffix = files[0].name.split(".")[1 if files[0].suffix in (".gz", ".zst") else -1] if files else ""
    if suffix not in KINDS:
        raise Fault("rows", f"{path} holds no '{split}' data.", f"It takes {', '.join(KINDS)} files.")
    return KINDS[suffix], [str(file) for file in files if f".{suffix}" in file.name]


def map_rows(rows, mapping, needed):
    """Every row through `mapping`; a row it gives None for is dropped. `needed` columns must come out."""
    try:
        first = next((made for made in map(mapping, rows) if made is not None), None)
    except Exception as error:
        what = f"mapping() raised {type(error).__name__}: {error}; the columns are {', '.join(rows.column_names)}."
        raise Fault("columns", what, "Correct mapping() for these columns.") from error
    if first is None:
        raise Fault("empty", f"mapping() dropped all {len(rows)} rows.", "Correct its condition or choose other data.")
    missing = [name for name in needed if name not in first]
    if missing:
        what = f"The rows have {', '.join(first)}, but {', '.join(missing)} is missing."
        raise Fault("columns", what, "Let mapping() return these columns.")
    keys = list(first)

    def batch(columns):
        made = [mapping(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
        made = [row for row in made if row is not None]
        return {key: [row.get(key) for row in made] for key in keys}

    kept = rows.map(batch, batched=True, remove_columns=rows.column_names)
    outcome.note(rows=len(rows), rows_kept=len(kept))
    return kept


def load_rows(source, config, split, mapping, needed, seed, eval_split=None, eval_share=None, most=None):
    """Training rows and held-out rows. Without a split of their own some training rows are held out, by the seed."""
    rows = map_rows(read_rows(source, config, split), mapping, needed)
    if most and len(rows) > most:
        rows = rows.shuffle(seed=seed).select(range(most))
    if eval_split:
        return rows, map_rows(read_rows(source, config, eval_split), mapping, needed)
    if not eval_share or len(rows) < 10:
        return rows, None
    parts = rows.train_test_split(test_size=max(2, min(round(len(rows) * eval_share), 2000)), seed=seed)
    return parts["train"], parts["test"]


# -- the machine --------------------------------------------------------------------------------------------------------


def settings(**given):
    """Trainer arguments as the script gives them, made to fit the machine at hand."""
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        given |= {"use_cpu": True, "bf16": False, "fp16": False, "gradient_checkpointing": False}
    elif given.get("bf16") and not (torch.cuda.is_available() and torch.cuda.is_bf16_supported()):
        given |= {"bf16": False, "fp16": torch.cuda.is_available()}
    given |= {"logging_nan_inf_filter": False, "disable_tqdm": not sys.stderr.isatty()}  # hide no NaN
    given["report_to"] = "trackio" if importlib.util.find_spec("trackio") and not REHEARSAL else "none"
    if REHEARSAL:
        given |= {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1, "eval_strategy": "no"}
        given |= {"load_best_model_at_end": False}
    return given


def attention(wanted):
    """FlashAttention needs its package and a GPU; without them torch's own attention does."""
    if wanted == "flash_attention_2" and not (torch.cuda.is_available() and importlib.util.find_spec("flash_attn")):
        return "sdpa"
    return wanted


def liger():
    return torch.cuda.is_available() and importlib.util.find_spec("liger_kernel") is not None


def dtype(name):
    return getattr(torch, name if torch.cuda.is_available() else "float32")


def lora(kind, **more):
    """The adapter's configuration, or None for full training."""
    if kind == "none":
        return None
    from peft import LoraConfig

    return LoraConfig(**more)


def four_bit(kind):
    """Weights in four bits for QLoRA; needs an NVIDIA GPU, so a rehearsal on a CPU leaves it out."""
    if kind != "qlora" or not torch.cuda.is_available():
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )


# -- a rehearsal's model: the same architecture, two layers, narrow, with the real tokenizer ------------------------------

WIDTHS = ("hidden_size", "intermediate_size", "moe_intermediate_size", "num_attention_heads", "num_key_value_heads")
MOST_PARAMETERS = 60_000_000


def prepare_model(auto, name, revision=None, **more):
    """The path to train from. In a rehearsal that is a small random twin, saved with the real tokenizer."""
    if not REHEARSAL:
        return name
    from transformers import AutoConfig, AutoProcessor

    try:
        config = AutoConfig.from_pretrained(name, revision=revision, **more)
        tools = AutoProcessor.from_pretrained(name, revision=revision)
        check_weights(Path(name))
    except Fault:
        raise
    except Exception as error:
        what = f"The model {name} cannot be read: {str(error).splitlines()[0][:300]}"
        raise Fault("model", what, "Check its name, revision, files and your access.") from error
    text = config.get_text_config()
    outcome.note(positions=getattr(text, "max_position_embeddings", None), real=size_of(auto, config))
    text.num_hidden_layers = min(2, text.num_hidden_layers)
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]
    while size_of(auto, config)["parameters"] > MOST_PARAMETERS and halve(text):
        pass
    outcome.note(small=size_of(auto, config))
    set_seed(0)
    path = RUN / "small"
    auto.from_config(config, dtype=torch.float32).save_pretrained(path)
    tools.save_pretrained(path)
    return str(path)


def check_weights(folder):
    """Open every file of local weights: a cut download shows in its header."""
    if not folder.is_dir():
        return
    from safetensors import safe_open

    files = list(folder.glob("*.safetensors"))
    if not files and not list(folder.glob("*.bin")):
        raise Fault("model", f"{folder} holds no weights.", "Name a folder with *.safetensors, or an id of the Hub.")
    for file in files:
        with safe_open(file, "pt") as opened:
            opened.keys()


def size_of(auto, config):
    with torch.device("meta"):
        model = auto.from_config(config)
    text = config.get_text_config()
    return {
        "parameters": sum(one.numel() for one in model.parameters()),
        "layers": getattr(text, "num_hidden_layers", 1),
        "hidden": getattr(text, "hidden_size", 1),
    }


def halve(config):
    wide = [name for name in WIDTHS if isinstance(getattr(config, name, None), int)]
    if config.hidden_size <= 128 or config.hidden_size % 2 or config.num_attention_heads % 2:
        return False
    for name in wide:
        setattr(config, name, max(1, getattr(config, name) // 2))
    return True


# -- the watch ----------------------------------------------------------------------------------------------------------


class Watch(TrainerCallback):
    """Speed and memory into every log line, progress for whoever looks on, alerts on divergence, and the stop."""

    def __init__(self):
        self.losses, self.flat, self.mark = [], 0, (time.time(), 0)
        self.first_reward, self.rewards, self.seen = None, [], set()

    def on_train_begin(self, args, state, control, **more):
        outcome.training, self.mark, self.began = True, (time.time(), None), (time.time(), state.global_step)
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
        if "num_tokens" in logs:
            if self.mark[1] is not None:
                logs["tokens_per_second"] = round((logs["num_tokens"] - self.mark[1]) / max(1e-6, now - self.mark[0]), 1)
            self.mark = (now, logs["num_tokens"])
        logs["memory_mb"] = peak_memory_mb()
        if "loss" in logs:
            self.judge(logs, state, control)
        if MAIN and state.max_steps:
            done = state.global_step - self.began[1]
            left = (now - self.began[0]) / done * (state.max_steps - state.global_step) if done else None
            told = {"step": state.global_step, "of": state.max_steps, "eta_seconds": left and round(left)}
            write_json(RUN / "progress.json", told | {key: logs[key] for key in logs if is_number(logs[key])})

    def judge(self, logs, state, control):
        loss, norm = float(logs["loss"]), float(logs.get("grad_norm", 0))
        if not math.isfinite(loss):
            outcome.told["diverged"] = f"the loss is {loss} at step {state.global_step}"
            control.should_training_stop = True
            return alert("ERROR", "loss is not a number", outcome.told["diverged"], state.global_step)
        self.losses.append(loss)
        recent, best = mean(self.losses[-5:]), min(self.losses)
        if "reward" not in logs and len(self.losses) > 10 and recent > 1.5 * best + 0.5:
            self.once("loss rises", f"mean of five is {recent:.3g}, the best was {best:.3g}; lower the learning rate", state)
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
            self.once("reward collapse", f"it fell from {mean(self.rewards[:5]):.3g} to {mean(self.rewards[-5:]):.3g}", state)

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


# -- train, save --------------------------------------------------------------------------------------------------------


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
        raise Fault("nan", f"Training diverged: {outcome.told['diverged']}.", "Lower the learning rate; look at the data.")
    outcome.check()  # stopped from outside: the checkpoint is written, the rest is not due
    if REHEARSAL:  # a checkpoint that cannot be resumed is no checkpoint
        trainer.args.max_steps = 3
        trainer.train(resume_from_checkpoint=str(last_checkpoint()))
        outcome.note(resumed=trainer.state.global_step == 3)
    outcome.told["stopped_early"] = trainer.state.global_step < trainer.state.max_steps


def save(trainer, tools, merge=True):
    """The trained model as folders that load by themselves: the adapter, and the whole model with it merged in."""
    model, folder = trainer.model, RUN / "model"
    if not hasattr(model, "peft_config"):
        trainer.save_model(str(folder))
        tools.save_pretrained(folder)
        return outcome.write(model=str(folder))
    trainer.save_model(str(RUN / "adapter"))
    tools.save_pretrained(RUN / "adapter")
    outcome.write(adapter=str(RUN / "adapter"))
    quantised = getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_quantized", False)
    if merge and MAIN and not quantised:  # weights in four bits would lose by merging: load the base anew for that
        model.merge_and_unload().save_pretrained(folder)
        tools.save_pretrained(folder)
        outcome.write(model=str(folder))


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
        numbers = {name: [one for one in list_ if is_number(one)] for name, list_ in values.items() if name != "answers"}
        means = {name: round(mean(list_), 6) for name, list_ in numbers.items() if list_}
        self.told[when] = {"means": means, **values}
        if MAIN:
            write_json(self.path, self.told)
        print(f"{when}: {means}", flush=True)
