# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Vision-language fine-tuning: the model learns to answer about pictures as the rows do.

Rows: `images` (a list) and `messages`, or `images`, `prompt` and `completion`; the loss is of the answers.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "llava-hf/llava-interleave-qwen-0.5b-hf", None
DATASET, CONFIG, SPLIT = "trl-lib/llava-instruct-mix", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "lora"  # lora, qlora (NVIDIA GPU), or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 2e-4, 0.1, "cosine"  # full training wants about a tenth
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 4, 4
ASSISTANT_ONLY = False  # messages: True needs a template that marks the assistant's turns
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "bfloat16", True, False, "flash_attention_2", True
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "vision-sft"
EVAL_ROWS = 100  # held-out rows that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{key: row[key] for key in ("images", "messages", "prompt", "completion") if key in row}]


# --- end of the plan ---

import torch
from kit_run import REHEARSAL, RUN, Evaluation, Fault, outcome, run, save, train
from kit_setup import attention, dtype, four_bit, load_rows, lora, prepare_model, settings
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTConfig, SFTTrainer


def main():
    # 1. The rows, and some of them held out.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, ("images",), SEED, EVAL_SPLIT, EVAL_SHARE)
    if "messages" not in rows.column_names and not {"prompt", "completion"} <= set(rows.column_names):
        what = f"The rows have {', '.join(rows.column_names)}."
        raise Fault("columns", what, "Let to_rows() return images with messages, or with prompt and completion.")

    # 2. Model and processor. Rows are never cut: half of a picture's tokens would be worse than none.
    model = prepare_model(AutoModelForImageTextToText, MODEL, REVISION)
    processor = AutoProcessor.from_pretrained(model, revision=None if REHEARSAL else REVISION)
    args = SFTConfig(
        **settings(
            output_dir=str(RUN / "checkpoints"),
            seed=SEED,
            data_seed=SEED,
            model_init_kwargs={
                "revision": None if REHEARSAL else REVISION,
                "dtype": dtype(DTYPE),
                "attn_implementation": attention(ATTENTION),
            },
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
            max_length=None,
            packing=False,
            remove_unused_columns=False,
            assistant_only_loss=ASSISTANT_ONLY and "messages" in rows.column_names,
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
    trainer = SFTTrainer(
        model,
        args=args,
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=processor,
        peft_config=lora(ADAPTER, **LORA),
        quantization_config=four_bit(ADAPTER),
    )

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = Measured(trainer.data_collator, held_out)
    measured.by("before", trainer.model)
    train(trainer, PATIENCE)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, processor, AutoModelForImageTextToText)


class Measured:
    """The loss of each held-out row, on the tokens that training counts."""

    def __init__(self, collate, held_out):
        some = held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else []
        self.collate, self.rows = collate, list(some)
        told = [{"prompt": said(row, ("user",)), "reference": said(row, ("assistant",))} for row in self.rows]
        self.evaluation = Evaluation("loss", False, told)

    @torch.inference_mode()
    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        model.eval()
        loss = []
        for row in self.rows:
            outcome.check()
            batch = {
                name: value.to(model.device) for name, value in self.collate([dict(row)]).items()
            }  # it changes what it gets
            loss.append(model(**batch).loss.item())
        model.train()
        self.evaluation.record(when, loss=loss)


def said(row, roles):
    """The words of a row's turns, without the pictures."""
    turns = row.get("messages") or row["prompt"] + row["completion"]
    parts = [one["content"] for one in turns if one["role"] in roles]
    texts = [one if isinstance(one, str) else " ".join(part.get("text") or "" for part in one) for one in parts]
    return " ".join(texts)[:2000]


if __name__ == "__main__":
    run(main)
