# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Continued pretraining: the model reads more text of a kind, every token counts.

Rows: `text`. Documents are packed to full length, long ones split, and do not see each other.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "Qwen/Qwen3-0.6B-Base", None
DATASET, CONFIG, SPLIT = "my-texts.jsonl", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "none"  # lora, qlora (NVIDIA GPU), or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 2e-5, 0.1, "cosine"  # with LoRA ten times as much
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 4, 4
MAX_LENGTH, PACKING = 1024, True
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "bfloat16", True, False, "flash_attention_2", True
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "cpt"
EVAL_ROWS = 200  # held-out rows that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{"text": row["text"]}]


# --- end of the plan ---

from kit_run import REHEARSAL, RUN, Evaluation, outcome, run, save, train
from kit_scoring import mean_losses, shown
from kit_setup import attention, dtype, four_bit, liger, load_rows, lora, prepare_model, settings
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main():
    # 1. The texts, and some of them held out.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, ("text",), SEED, EVAL_SPLIT, EVAL_SHARE)
    rows = rows.select_columns(["text"])  # a prompt beside it would change what is learned

    # 2. Model, tokenizer, trainer.
    model = prepare_model(AutoModelForCausalLM, MODEL, REVISION)
    tokenizer = AutoTokenizer.from_pretrained(model, revision=None if REHEARSAL else REVISION)
    outcome.note(longest=max(len(tokenizer(text)["input_ids"]) for text in rows[:200]["text"]))
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
            use_liger_kernel=liger(),
            max_length=MAX_LENGTH,
            packing=PACKING,
            packing_strategy="bfd_split",
            eval_packing=False,
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
    """The loss on held-out texts, per token."""

    def __init__(self, tokenizer, held_out):
        some = held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else []
        self.tokenizer, self.rows = tokenizer, [("", row["text"]) for row in some]
        self.evaluation = Evaluation("loss", False, [{"prompt": "", "reference": shown(text)} for _, text in self.rows])

    def by(self, when, model):
        if self.rows and not (when == "before" and self.evaluation.has("before")):
            loss = mean_losses(model, self.tokenizer, self.rows, MAX_LENGTH)
            self.evaluation.record(when, loss=loss)


if __name__ == "__main__":
    run(main)
