# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Distillation: a small model answers, and a larger one with the same vocabulary corrects every token.

Rows: `prompt`.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "Qwen/Qwen3-0.6B", None
TEACHER = "Qwen/Qwen3-4B"
DATASET, CONFIG, SPLIT = "trl-lib/ultrachat_200k", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "lora"  # lora, qlora (NVIDIA GPU), or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 2e-5, 0.1, "cosine"  # full training wants about a tenth
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 4, 4
BETA = 1.0  # 1: the student's own view counts (reverse KL), 0: the teacher's
NEW_TOKENS, TEMPERATURE = 256, 1.0
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "bfloat16", True, False, "flash_attention_2", True
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "distillation"
EVAL_ROWS = 64  # held-out prompts the teacher answers; the student is measured on these answers


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{"prompt": row["prompt"]}]


# --- end of the plan ---

from kit_run import REHEARSAL, RUN, Evaluation, Fault, outcome, run, save, train
from kit_scoring import answers, as_text, mean_losses, shown, templated
from kit_setup import attention, dtype, four_bit, load_rows, lora, prepare_model, settings
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DistillationConfig, DistillationTrainer


def main():
    # 1. The prompts, and some of them held out.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, ("prompt",), SEED, EVAL_SPLIT, EVAL_SHARE)
    rows = rows.select_columns(["prompt"])

    # 2. Student and teacher. They must cut text into the same tokens, or there is nothing to compare.
    model = prepare_model(AutoModelForCausalLM, MODEL, REVISION)
    tokenizer = AutoTokenizer.from_pretrained(model, revision=None if REHEARSAL else REVISION)
    teacher = prepare_model(AutoModelForCausalLM, TEACHER, folder="small-teacher")
    if AutoTokenizer.from_pretrained(teacher).get_vocab() != tokenizer.get_vocab():
        raise Fault("teacher", f"{TEACHER} has another vocabulary than {MODEL}.", "Take a teacher of the same family.")
    texts = [templated(tokenizer, prompt) for prompt in rows[:200]["prompt"]]
    outcome.note(longest=max(len(tokenizer(text)["input_ids"]) for text in texts) + NEW_TOKENS)
    args = DistillationConfig(
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
            gradient_accumulation_steps=ACCUMULATION,
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=MAX_GRAD_NORM,
            optim=OPTIM,
            bf16=BF16,
            fp16=FP16,
            gradient_checkpointing=CHECKPOINTING,
            teacher_model_init_kwargs={"dtype": dtype(DTYPE), "attn_implementation": attention(ATTENTION)},
            max_completion_length=16 if REHEARSAL else NEW_TOKENS,
            temperature=TEMPERATURE,
            beta=BETA,
            logging_steps=LOG_STEPS,
            save_strategy="steps",
            save_steps=EVAL_STEPS,
            save_total_limit=2,
            project=PROJECT,
            run_name=RUN_NAME,
        )
    )
    trainer = DistillationTrainer(
        model,
        teacher_model=teacher,
        args=args,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=lora(ADAPTER, **LORA),
        quantization_config=four_bit(ADAPTER),
    )

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = Measured(tokenizer, held_out, trainer.teacher_model)
    measured.by("before", trainer.model)
    train(trainer)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, tokenizer, AutoModelForCausalLM)


class Measured:
    """How likely the student finds the teacher's own answers, per token."""

    def __init__(self, tokenizer, held_out, teacher):
        some = held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else []
        self.tokenizer, prompts = tokenizer, [row["prompt"] for row in some]
        texts = answers(teacher, tokenizer, prompts, 8 if REHEARSAL else NEW_TOKENS) if prompts else []
        chat = bool(prompts) and not isinstance(prompts[0], str)
        said = [[{"role": "assistant", "content": text}] if chat else text for text in texts]
        self.rows = [row for row, text in zip(zip(prompts, said, strict=True), texts, strict=True) if text]
        told = [{"prompt": shown(as_text(prompt)), "reference": shown(as_text(text))} for prompt, text in self.rows]
        self.evaluation = Evaluation("loss", False, told)

    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        texts = answers(model, self.tokenizer, [prompt for prompt, _ in self.rows], 8 if REHEARSAL else NEW_TOKENS)
        self.evaluation.record(
            when, loss=mean_losses(model, self.tokenizer, self.rows), answers=[shown(t) for t in texts]
        )


if __name__ == "__main__":
    run(main)
