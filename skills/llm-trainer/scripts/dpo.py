# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Direct preference optimisation: of two answers the model learns to prefer the chosen one.

Rows: `prompt`, `chosen`, `rejected`, or `chosen` and `rejected` with the same beginning. Start from a tuned model.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "Qwen/Qwen3-0.6B", None
DATASET, CONFIG, SPLIT = "trl-lib/ultrafeedback_binarized", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "lora"  # lora, qlora (NVIDIA GPU), or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 5e-6, 0.1, "cosine"  # full training wants about a tenth
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 4, 4
MAX_LENGTH, BETA = 1024, 0.1  # a higher BETA stays nearer to the model it starts from
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "bfloat16", True, False, "flash_attention_2", True
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "dpo"
EVAL_ROWS = 200  # held-out rows that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{key: row[key] for key in ("prompt", "chosen", "rejected") if key in row}]


# --- end of the plan ---

import math

from kit_run import REHEARSAL, RUN, Evaluation, outcome, run, save, train
from kit_scoring import as_text, encode, losses, preference, shown
from kit_setup import attention, dtype, four_bit, liger, load_rows, lora, prepare_model, settings
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer


def main():
    # 1. The pairs, and some of them held out.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, ("chosen", "rejected"), SEED, EVAL_SPLIT, EVAL_SHARE)

    # 2. Model, tokenizer, trainer. The reference is the model as it starts: without the adapter, or a second copy.
    model = prepare_model(AutoModelForCausalLM, MODEL, REVISION)
    tokenizer = AutoTokenizer.from_pretrained(model, revision=None if REHEARSAL else REVISION)
    measure_lengths(tokenizer, rows)
    args = DPOConfig(
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
            use_liger_kernel=liger(),
            max_length=MAX_LENGTH,
            beta=BETA,
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
    trainer = DPOTrainer(
        model,
        args=args,
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=lora(ADAPTER, **LORA),
        quantization_config=four_bit(ADAPTER),
    )

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = Measured(tokenizer, held_out)
    measured.by("before", trainer.model)
    train(trainer, PATIENCE)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, tokenizer, AutoModelForCausalLM)


def measure_lengths(tokenizer, rows):
    """How long answers with their prompts are, and how many MAX_LENGTH would cut."""
    pairs = [preference(row) for row in rows.select(range(min(len(rows), 100)))]
    coded = [encode(tokenizer, prompt, answer) for prompt, *both in pairs for answer in both]
    limit = MAX_LENGTH or 10**9
    outcome.note(
        longest=max(len(ids) for ids, _ in coded),
        cut=sum(len(ids) > limit for ids, _ in coded) / len(coded),
        lost=sum(start >= min(len(ids), limit) for ids, start in coded) / len(coded),
    )


class Measured:
    """Is the chosen answer, per token, the likelier one? And the loss of DPO against the model as it began."""

    def __init__(self, tokenizer, held_out):
        some = held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else []
        self.tokenizer, self.pairs = tokenizer, [preference(row) for row in some]
        names = ("prompt", "reference", "rejected")
        texts = [[shown(as_text(one)) for one in pair] for pair in self.pairs]
        told = [dict(zip(names, three, strict=True)) for three in texts]
        self.evaluation = Evaluation("preference_accuracy", True, told)

    def by(self, when, model):
        if not self.pairs or (when == "before" and self.evaluation.has("before")):
            return
        chosen = losses(model, self.tokenizer, [(prompt, good) for prompt, good, _ in self.pairs], MAX_LENGTH)
        rejected = losses(model, self.tokenizer, [(prompt, bad) for prompt, _, bad in self.pairs], MAX_LENGTH)
        margin = [bad - good for (good, _), (bad, _) in zip(chosen, rejected, strict=True)]
        begun = margin if when == "before" else self.evaluation.told["before"]["margin"]
        gain = [BETA * (now - then) for now, then in zip(margin, begun, strict=True)]
        loss = [max(-one, 0) + math.log1p(math.exp(-abs(one))) for one in gain]
        right = [float(a / max(1, n) < b / max(1, m)) for (a, n), (b, m) in zip(chosen, rejected, strict=True)]
        self.evaluation.record(when, preference_accuracy=right, loss=loss, margin=margin)


if __name__ == "__main__":
    run(main)
