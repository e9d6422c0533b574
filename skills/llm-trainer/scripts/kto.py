# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""KTO: the model learns from single answers that were found good or bad.

Rows: `prompt`, `completion`, `label` (true: good).

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "Qwen/Qwen3-0.6B", None
DATASET, CONFIG, SPLIT = "trl-lib/kto-mix-14k", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "lora"  # lora, qlora (NVIDIA GPU), or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 5e-6, 0.1, "cosine"  # full training wants about a fifth
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 4, 4
MAX_LENGTH, BETA = 1024, 0.1  # a higher BETA stays nearer to the model it starts from
DESIRABLE, UNDESIRABLE = 1.0, 1.0  # weights, when there are many more of the one than of the other
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "bfloat16", True, False, "flash_attention_2", True
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "kto"
EVAL_ROWS = 200  # held-out rows that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{"prompt": row["prompt"], "completion": row["completion"], "label": row["label"]}]


# --- end of the plan ---

from kit_run import REHEARSAL, RUN, Evaluation, Fault, outcome, run, save, train
from kit_scoring import as_text, encode, mean_losses, shown
from kit_setup import attention, dtype, four_bit, liger, load_rows, lora, prepare_model, settings
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import KTOConfig, KTOTrainer


def main():
    # 1. The answers, and some of them held out.
    needed = ("prompt", "completion", "label")
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, needed, SEED, EVAL_SPLIT, EVAL_SHARE)
    labels = set(rows["label"][:10_000])
    if not labels <= {True, False}:
        raise Fault("columns", f"The labels are {sorted(map(str, labels))[:5]}.", "KTO wants true and false.")

    # 2. Model, tokenizer, trainer.
    model = prepare_model(AutoModelForCausalLM, MODEL, REVISION)
    tokenizer = AutoTokenizer.from_pretrained(model, revision=None if REHEARSAL else REVISION)
    coded = [encode(tokenizer, row["prompt"], row["completion"]) for row in rows.select(range(min(len(rows), 200)))]
    limit = MAX_LENGTH or 10**9
    outcome.note(longest=max(len(ids) for ids, _ in coded), cut=sum(len(ids) > limit for ids, _ in coded) / len(coded))
    args = KTOConfig(
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
            desirable_weight=DESIRABLE,
            undesirable_weight=UNDESIRABLE,
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
    trainer = KTOTrainer(
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


class Measured:
    """Are good answers likelier, bad ones less likely? The mean log-probability of a token, negated for bad answers."""

    def __init__(self, tokenizer, held_out):
        some = held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else []
        self.tokenizer, self.rows = tokenizer, list(some)
        told = [
            {
                "prompt": shown(as_text(row["prompt"])),
                "reference": shown(as_text(row["completion"])),
                "label": row["label"],
            }
            for row in self.rows
        ]
        self.evaluation = Evaluation("signed_log_probability", True, told)

    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        pairs = [(row["prompt"], row["completion"]) for row in self.rows]
        loss = mean_losses(model, self.tokenizer, pairs, MAX_LENGTH)
        labelled = list(zip(loss, (row["label"] for row in self.rows), strict=True))
        signed = [None if one is None else -one if good else one for one, good in labelled]
        self.evaluation.record(
            when, signed_log_probability=signed, loss=[one if good else None for one, good in labelled]
        )


if __name__ == "__main__":
    run(main)
