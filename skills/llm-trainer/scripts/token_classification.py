# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Token classification: a tag for every word, such as the kind of a name.

Rows: `tokens` (words) and `tags` (numbers or words), of equal length.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "answerdotai/ModernBERT-base", None
DATASET, CONFIG, SPLIT = "tner/conll2003", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "none"  # lora, or none: all weights
LORA = {
    "r": 16,
    "lora_alpha": 32,
    "target_modules": "all-linear",
    "task_type": "TOKEN_CLS",
    "modules_to_save": ["score"],
}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 5e-5, 0.1, "cosine"  # with LoRA about four times as much
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 16, 1
MAX_LENGTH = 512
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "float32", True, False, "sdpa", False
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "token-classification"
EVAL_ROWS = 500  # held-out rows that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{"tokens": row["tokens"], "tags": row["tags"]}]


# --- end of the plan ---

import torch
from kit_run import REHEARSAL, RUN, Evaluation, Fault, outcome, run, save, train
from kit_scoring import shown
from kit_setup import attention, dtype, load_rows, lora, prepare_model, settings
from peft import get_peft_model
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)


def main():
    # 1. The rows, some held out, and the tags there are.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, ("tokens", "tags"), SEED, EVAL_SPLIT, EVAL_SHARE)
    uneven = sum(len(words) != len(tags) for words, tags in zip(rows["tokens"], rows["tags"], strict=True))
    if uneven:
        raise Fault(
            "columns", f"In {uneven} rows there are not as many tags as tokens.", "Drop or mend them in to_rows()."
        )
    found = {tag for tags in rows["tags"] for tag in tags}
    labels = [str(tag) for tag in sorted(found, key=lambda one: (isinstance(one, str), one))]
    numbers = {name: number for number, name in enumerate(labels)}

    # 2. The model with a new head, one output per tag.
    path = prepare_model(AutoModelForTokenClassification, MODEL, REVISION, num_labels=len(labels))
    tokenizer = AutoTokenizer.from_pretrained(path, revision=None if REHEARSAL else REVISION)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForTokenClassification.from_pretrained(
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

    def tokens(batch):
        """A word's first piece carries its tag, the others are not counted."""
        coded = tokenizer(batch["tokens"], is_split_into_words=True, truncation=True, max_length=MAX_LENGTH)
        marked = []
        for i, tags in enumerate(batch["tags"]):
            words = coded.word_ids(i)
            new = [word is not None and (at == 0 or words[at - 1] != word) for at, word in enumerate(words)]
            marked.append([numbers[str(tags[word])] if first else -100 for first, word in zip(new, words, strict=True)])
        return {**coded, "labels": marked}

    told = list(held_out.select(range(min(len(held_out), EVAL_ROWS)))) if held_out else []
    rows = rows.map(tokens, batched=True, remove_columns=rows.column_names)
    held_out = held_out and held_out.map(tokens, batched=True, remove_columns=held_out.column_names)
    outcome.note(longest=max(map(len, rows[:200]["input_ids"])), labels=labels)
    collate = DataCollatorForTokenClassification(tokenizer)
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
    save(trainer, tokenizer, AutoModelForTokenClassification)


class Measured:
    """The share of words of a row with the right tag, and the mean cross-entropy of its words."""

    def __init__(self, collate, held_out, told, labels):
        self.collate, self.labels = collate, labels
        self.rows = list(held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else [])
        told = [
            {"prompt": shown(" ".join(row["tokens"])), "reference": " ".join(map(str, row["tags"]))} for row in told
        ]
        self.evaluation = Evaluation("accuracy", True, told[: len(self.rows)])

    @torch.inference_mode()
    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        model.eval()
        right, loss, said = [], [], []
        for row in self.rows:
            outcome.check()
            batch = self.collate([row]).to(model.device)
            wanted = batch.pop("labels")[0]
            logits = model(**batch).logits[0].float()
            counted = wanted != -100
            loss.append(torch.nn.functional.cross_entropy(logits[counted], wanted[counted]).item())
            right.append((logits.argmax(-1) == wanted)[counted].float().mean().item())
            said.append(" ".join(self.labels[number] for number in logits.argmax(-1)[counted].tolist()))
        model.train()
        self.evaluation.record(when, accuracy=right, loss=loss, answers=said)


if __name__ == "__main__":
    run(main)
