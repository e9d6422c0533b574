"""What a training script stands on: its rows, the machine it finds, and the small twin of the model for a rehearsal."""

import importlib.util
import sys
from pathlib import Path

import torch
from kit_run import HERE, REHEARSAL, RUN, Fault, outcome
from transformers import set_seed

REHEARSAL_ROWS = 16

# -- rows --

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
        rows = Dataset.from_list(first, features=rows.features)
    return pictured(rows)


def pictured(rows):
    """Pictures that another program wrote, as bytes and a path, become images."""
    from datasets import Image, List

    def is_picture(kind):
        return isinstance(kind, dict) and set(kind) == {"bytes", "path"}

    for name, kind in rows.features.items():
        if is_picture(kind):
            rows = rows.cast_column(name, Image())
        elif isinstance(kind, List) and is_picture(kind.feature):
            rows = rows.cast_column(name, List(Image()))
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


def map_rows(rows, to_rows, needed):
    """Every row through `to_rows`, which gives none, one or several. `needed` columns must come out."""

    def made_of(row):
        made = to_rows(row)
        return [] if made is None else [made] if isinstance(made, dict) else made

    try:
        first = next((made for row in rows for made in made_of(row)), None)
    except Exception as error:
        what = f"to_rows() raised {type(error).__name__}: {error}; the columns are {', '.join(rows.column_names)}."
        raise Fault("columns", what, "Correct to_rows() for these columns.") from error
    if first is None:
        what = f"to_rows() left nothing of {len(rows)} rows."
        raise Fault("empty", what, "Correct its condition or choose other data.")
    missing = [name for name in needed if name not in first]
    if missing:
        what = f"The rows have {', '.join(first)}, but {', '.join(missing)} is missing."
        raise Fault("columns", what, "Let to_rows() return these columns.")

    def batch(columns):
        names = list(columns)
        made = [
            one
            for values in zip(*columns.values(), strict=True)
            for one in made_of(dict(zip(names, values, strict=True)))
        ]
        return {key: [row.get(key) for row in made] for key in first}

    kept = rows.map(batch, batched=True, remove_columns=rows.column_names)
    outcome.note(rows=len(rows), rows_kept=len(kept))
    return kept


def load_rows(source, config, split, to_rows, needed, seed, eval_split=None, eval_share=None, most=None):
    """Training rows and held-out rows. Without a split of their own some training rows are held out, by the seed."""
    rows = map_rows(read_rows(source, config, split), to_rows, needed)
    if most and len(rows) > most:
        rows = rows.shuffle(seed=seed).select(range(most))
    if eval_split:
        return rows, map_rows(read_rows(source, config, eval_split), to_rows, needed)
    if not eval_share or len(rows) < 10:
        return rows, None
    parts = rows.train_test_split(test_size=max(2, min(round(len(rows) * eval_share), 2000)), seed=seed)
    return parts["train"], parts["test"]


# -- the machine --


def settings(**given):
    """Trainer arguments as the script gives them, made to fit the machine at hand."""
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        given |= {"use_cpu": True, "bf16": False, "fp16": False}
    elif given.get("bf16") and not (torch.cuda.is_available() and torch.cuda.is_bf16_supported()):
        given |= {"bf16": False, "fp16": torch.cuda.is_available()}
    given |= {"logging_nan_inf_filter": False, "disable_tqdm": not sys.stderr.isatty()}  # hide no NaN
    given["report_to"] = "trackio" if importlib.util.find_spec("trackio") and not REHEARSAL else "none"
    if REHEARSAL:
        given |= {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1, "eval_strategy": "no"}
        given |= {"load_best_model_at_end": False, "warmup_steps": 0}  # the full rate at once: what bursts, bursts here
    return given


def attention(wanted):
    """FlashAttention needs its package and a GPU; without them torch's own attention does."""
    if wanted == "flash_attention_2" and not (torch.cuda.is_available() and importlib.util.find_spec("flash_attn")):
        return "sdpa"
    return wanted


def liger():
    return torch.cuda.is_available() and importlib.util.find_spec("liger_kernel") is not None


def dtype(name):
    """The wanted number format of the weights; without a GPU the one that is exact and fast there."""
    return name if torch.cuda.is_available() else "float32"


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

    kinds = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True, **kinds)


# -- a rehearsal's model: the same architecture, two layers, narrow, with the real tokenizer --

WIDTHS = ("hidden_size", "intermediate_size", "moe_intermediate_size", "num_attention_heads", "num_key_value_heads")
MOST_PARAMETERS = 60_000_000


def prepare_model(auto, name, revision=None, folder="small", **more):
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
    if hasattr(config, "vision_config") and hasattr(config.vision_config, "num_hidden_layers"):
        config.vision_config.num_hidden_layers = min(3, config.vision_config.num_hidden_layers)
    while size_of(auto, config)["parameters"] > MOST_PARAMETERS and halve(text):
        pass
    outcome.note(small=size_of(auto, config))
    set_seed(0)
    path = RUN / folder
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
