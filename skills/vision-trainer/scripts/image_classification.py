# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Image classification: a label for a picture.

Rows: `image` and `label`, a number or a word.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "google/vit-base-patch16-224-in21k", None
DATASET, CONFIG, SPLIT = "ethz/food101", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "none"  # lora, or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "modules_to_save": ["classifier"]}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 5e-5, 0.1, "cosine"  # with LoRA about ten times as much
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 32, 1
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "float32", True, False, "sdpa", False
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "image-classification"
EVAL_ROWS = 500  # held-out rows that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{"image": row["image"], "label": row["label"]}]


# --- end of the plan ---

import random

import torch
from kit_run import REHEARSAL, RUN, Evaluation, outcome, run, save, train
from kit_setup import attention, dtype, load_rows, lora, prepare_model, settings
from peft import get_peft_model
from PIL import ImageOps
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments


def main():
    # 1. The rows, some held out, and the labels there are.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, ("image", "label"), SEED, EVAL_SPLIT, EVAL_SHARE)
    found = sorted(set(rows["label"]), key=lambda one: (isinstance(one, str), one))
    labels = [str(one) for one in found]
    numbers = {name: number for number, name in enumerate(labels)}
    outcome.note(labels=labels)

    # 2. The model with a new head, one output per label; the old head is thrown away.
    path = prepare_model(AutoModelForImageClassification, MODEL, REVISION, num_labels=len(labels))
    processor = AutoImageProcessor.from_pretrained(path, revision=None if REHEARSAL else REVISION)
    model = AutoModelForImageClassification.from_pretrained(
        path,
        revision=None if REHEARSAL else REVISION,
        dtype=dtype(DTYPE),
        attn_implementation=attention(ATTENTION),
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id=numbers,
        ignore_mismatched_sizes=True,
    )
    if ADAPTER != "none":
        model = get_peft_model(model, lora(ADAPTER, **LORA))

    def coded(rows, mirror=False):
        pictures = [row["image"].convert("RGB") for row in rows]
        pictures = [ImageOps.mirror(one) if mirror and random.random() < 0.5 else one for one in pictures]
        batch = processor(images=pictures, return_tensors="pt")
        wanted = torch.tensor([numbers[str(row["label"])] for row in rows])
        return {"pixel_values": batch["pixel_values"], "labels": wanted}

    def collate(rows):
        return coded(rows, mirror=model.training)

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
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=MAX_GRAD_NORM,
            optim=OPTIM,
            bf16=BF16,
            fp16=FP16,
            gradient_checkpointing=CHECKPOINTING,
            remove_unused_columns=False,  # pictures become tensors batch by batch
            label_names=["labels"],
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
        processing_class=processor,
    )

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = Measured(coded, held_out, labels)
    measured.by("before", trainer.model)
    train(trainer, PATIENCE)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, processor, AutoModelForImageClassification)


class Measured:
    """Is the label right? And the cross-entropy of each row."""

    def __init__(self, coded, held_out, labels):
        self.coded, self.labels = coded, labels
        self.rows = list(held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else [])
        told = [{"prompt": f"picture {i}", "reference": str(row["label"])} for i, row in enumerate(self.rows)]
        self.evaluation = Evaluation("accuracy", True, told)

    @torch.inference_mode()
    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        model.eval()
        right, loss, said = [], [], []
        for begin in range(0, len(self.rows), 16):
            outcome.check()
            batch = self.coded(self.rows[begin : begin + 16])
            wanted = batch["labels"]
            logits = model(pixel_values=batch["pixel_values"].to(model.device)).logits.float().cpu()
            loss += torch.nn.functional.cross_entropy(logits, wanted, reduction="none").tolist()
            right += (logits.argmax(-1) == wanted).float().tolist()
            said += [self.labels[number] for number in logits.argmax(-1).tolist()]
        model.train()
        self.evaluation.record(when, accuracy=right, loss=loss, answers=said)


if __name__ == "__main__":
    run(main)
