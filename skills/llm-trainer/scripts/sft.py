# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Supervised fine-tuning: the model learns to answer as the rows do.

Rows: `messages` (chat), or `prompt` and `completion`, or plain `text`. Run it with `python`, `uv run` or
`accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "Qwen/Qwen3-0.6B", None
DATASET, CONFIG, SPLIT = "trl-lib/Capybara", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "lora"  # lora, qlora (NVIDIA GPU), or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 2e-4, 0.1, "cosine"  # full training wants about a tenth of LoRA's rate
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 4, 4
MAX_LENGTH, PACKING = 1024, True
ASSISTANT_ONLY = True  # messages: learn the assistant's turns only; prompt and completion: always the completion only
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "bfloat16", True, False, "flash_attention_2", True
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "sft"
EVAL_ROWS, ANSWERED_ROWS, NEW_TOKENS = 200, 32, 256  # held-out rows: measured, answered; how long an answer may be
SHORT = 48  # tokens up to which a reference is something to match exactly; above, the loss is the metric


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{"messages": row["messages"]}]


# --- end of the plan ---

from kit_run import REHEARSAL, RUN, Evaluation, Fault, outcome, run, save, train
from kit_scoring import answers, as_text, encode, mean_losses, plain, shown, turns
from kit_setup import attention, dtype, four_bit, liger, load_rows, lora, prepare_model, settings
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main():
    # 1. The rows, and some of them held out.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, (), SEED, EVAL_SPLIT, EVAL_SHARE)
    shape = set(rows.column_names)
    if not ("messages" in shape or "text" in shape or {"prompt", "completion"} <= shape):
        what = f"The rows have {', '.join(sorted(shape))}; SFT wants messages, text, or prompt and completion."
        raise Fault("columns", what, "Let to_rows() return these columns.")

    # 2. Model and tokenizer by name: the trainer loads the weights with the right number format and attention.
    model = prepare_model(AutoModelForCausalLM, MODEL, REVISION)
    tokenizer = AutoTokenizer.from_pretrained(model, revision=None if REHEARSAL else REVISION)
    measure_lengths(tokenizer, rows)
    conversational = "messages" in shape
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
            packing=PACKING,  # best-fit: rows fill the length together and do not see each other
            packing_strategy="bfd",
            eval_packing=False,
            # unpacked: of a step's rows those of like length go through together, which saves most of the padding
            train_sampling_strategy="random" if PACKING else "batch_rebalance",
            assistant_only_loss=ASSISTANT_ONLY and conversational,
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
    try:
        trainer = SFTTrainer(
            model,
            args=args,
            train_dataset=rows,
            eval_dataset=held_out,
            processing_class=tokenizer,
            peft_config=lora(ADAPTER, **LORA),
            quantization_config=four_bit(ADAPTER),
        )
    except ValueError as error:
        if "chat template" in str(error).lower() or "generation" in str(error).lower():
            mend = "Take another template, or ASSISTANT_ONLY = False (plan: assistant_only_loss)."
            raise Fault("template", f"The chat template marks no assistant turns: {error}", mend) from error
        raise

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = Measured(tokenizer, held_out)
    measured.by("before", trainer.model)
    train(trainer, PATIENCE)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, tokenizer, AutoModelForCausalLM)


def measure_lengths(tokenizer, rows):
    """How long rows are, and how many MAX_LENGTH would cut; of a row cut before its completion nothing is learned."""
    coded = [encode(tokenizer, *turns(row)) for row in rows.select(range(min(len(rows), 200)))]
    limit = MAX_LENGTH or 10**9
    outcome.note(
        longest=max(len(ids) for ids, _ in coded),
        cut=sum(len(ids) > limit for ids, _ in coded) / len(coded),
        lost=sum(start >= min(len(ids), limit) for ids, start in coded) / len(coded),
    )


class Measured:
    """Loss on held-out completions, and whether the model's own answer is exactly the reference where it is short."""

    def __init__(self, tokenizer, held_out):
        some = held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else []
        self.tokenizer, self.rows = tokenizer, [turns(row) for row in some]
        self.new_tokens = 8 if REHEARSAL else NEW_TOKENS
        lengths = [len(tokenizer(as_text(completion))["input_ids"]) for _, completion, _ in self.rows]
        answerable = [i for i, row in enumerate(self.rows) if row[0] and lengths[i] <= NEW_TOKENS and not row[2]]
        self.answered = answerable[: 2 if REHEARSAL else ANSWERED_ROWS]
        told = [{"prompt": shown(as_text(row[0])), "reference": shown(as_text(row[1]))} for row in self.rows]
        short = bool(self.answered) and sorted(lengths[i] for i in self.answered)[len(self.answered) // 2] <= SHORT
        self.evaluation = Evaluation("exact_match" if short else "loss", short, told)

    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        given = answers(model, self.tokenizer, [self.rows[i][0] for i in self.answered], self.new_tokens)
        texts, hits = [None] * len(self.rows), [None] * len(self.rows)
        for i, text in zip(self.answered, given, strict=True):
            texts[i], hits[i] = shown(text), float(plain(text) == plain(as_text(self.rows[i][1])))
        loss = mean_losses(model, self.tokenizer, self.rows, MAX_LENGTH)
        self.evaluation.record(when, loss=loss, exact_match=hits, answers=texts)


if __name__ == "__main__":
    run(main)
