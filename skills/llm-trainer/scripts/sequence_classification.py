# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Sequence classification: a label for a text.

Rows: `text` (and `text_pair`, if there are two) and `label`, a number or a word.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "answerdotai/ModernBERT-base", None
DATASET, CONFIG, SPLIT = "stanfordnlp/imdb", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "none"  # lora, or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "SEQ_CLS", "modules_to_save": ["score"]}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 5e-5, 0.1, "cosine"  # with LoRA about four times as much
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 16, 1
MAX_LENGTH = 512
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "float32", True, False, "sdpa", False
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "sequence-classification"
EVAL_ROWS = 1000  # held-out rows that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{"text": row["text"], "label": row["label"]}]


# --- end of the plan ---

import torch
from kit_run import REHEARSAL, RUN, Evaluation, outcome, run, save, train
from kit_scoring import shown
from kit_setup import attention, dtype, load_rows, lora, prepare_model, settings
from peft import get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


def main():
    # 1. The rows, some held out, and the labels there are.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, ("text", "label"), SEED, EVAL_SPLIT, EVAL_SHARE)
    labels = label_names(rows)
    numbers = {name: number for number, name in enumerate(labels)}

    # 2. The model with a new head, one output per label.
    path = prepare_model(AutoModelForSequenceClassification, MODEL, REVISION, num_labels=len(labels))
    tokenizer = AutoTokenizer.from_pretrained(path, revision=None if REHEARSAL else REVISION)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        path,
        revision=None if REHEARSAL else REVISION,
        dtype=dtype(DTYPE),
        attn_implementation=attention(ATTENTION),
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id=numbers,
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    if ADAPTER != "none":
        model = get_peft_model(model, lora(ADAPTER, **LORA))
        if CHECKPOINTING:
            model.enable_input_require_grads()
    lengths = [len(ids) for ids in tokenizer(rows[:200]["text"])["input_ids"]]
    outcome.note(
        longest=max(lengths), cut=sum(n > (MAX_LENGTH or 10**9) for n in lengths) / len(lengths), labels=labels
    )

    def tokens(batch):
        coded = tokenizer(
            batch["text"], batch.get("text_pair"), truncation=MAX_LENGTH is not None, max_length=MAX_LENGTH
        )
        return {**coded, "labels": [numbers[name_of(label)] for label in batch["label"]]}

    told = list(held_out.select(range(min(len(held_out), EVAL_ROWS)))) if held_out else []
    rows = rows.map(tokens, batched=True, remove_columns=rows.column_names)
    held_out = held_out and held_out.map(tokens, batched=True, remove_columns=held_out.column_names)
    collate = DataCollatorWithPadding(tokenizer)
    args = TrainingArguments(
        **settings(
            output_dir=str(RUN / "checkpoints"),
            seed=SEED,
            data_seed=SEED,
            learning_rate=LEARNING_RATE,
            warmup_steps=WARMUP_STEPS,
            lr_scheduler_type=SCHEDULER,
            num_train_epochs=EPOCHS,
            max_steps=MAX_STEPS,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            gradient_accumulation_steps=ACCUMULATION,
            train_sampling_strategy="batch_rebalance",  # rows of like length together: less padding
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=MAX_GRAD_NORM,
            optim=OPTIM,
            bf16=BF16,
            fp16=FP16,
            gradient_checkpointing=CHECKPOINTING,
            logging_steps=LOG_STEPS,
            eval_strategy="steps" if held_out else "no",
            eval_steps=EVAL_STEPS,
            save_strategy="steps",
            save_steps=EVAL_STEPS,
            save_total_limit=2,
            load_best_model_at_end=bool(held_out),
            metric_for_best_model="eval_loss",
            greater_is_better=False,
            project=PROJECT,
            run_name=RUN_NAME,
        )
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=held_out,
        data_collator=collate,
        processing_class=tokenizer,
    )

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = Measured(collate, held_out, told, labels)
    measured.by("before", trainer.model)
    train(trainer, PATIENCE)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, tokenizer, AutoModelForSequenceClassification)


def name_of(label):
    return str(label)


def label_names(rows):
    """All labels in order: numbers as numbers, words by the alphabet."""
    found = set(rows.unique("label"))
    return [name_of(label) for label in sorted(found, key=lambda one: (isinstance(one, str), one))]


class Measured:
    """Is the label right? And the cross-entropy of each row."""

    def __init__(self, collate, held_out, told, labels):
        self.collate, self.labels = collate, labels
        self.rows = list(held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else [])
        told = [{"prompt": shown(row["text"]), "reference": name_of(row["label"])} for row in told[: len(self.rows)]]
        self.evaluation = Evaluation("accuracy", True, told)

    @torch.inference_mode()
    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        model.eval()
        right, loss, said = [], [], []
        for begin in range(0, len(self.rows), 16):
            outcome.check()
            batch = self.collate(self.rows[begin : begin + 16]).to(model.device)
            wanted = batch.pop("labels")
            logits = model(**batch).logits.float()
            loss += torch.nn.functional.cross_entropy(logits, wanted, reduction="none").tolist()
            right += (logits.argmax(-1) == wanted).float().tolist()
            said += [self.labels[number] for number in logits.argmax(-1).tolist()]
        model.train()
        self.evaluation.record(when, accuracy=right, loss=loss, answers=said)


if __name__ == "__main__":
    run(main)
