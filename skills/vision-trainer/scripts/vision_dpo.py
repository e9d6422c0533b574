# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Vision-language DPO: of two answers about a picture the model learns to prefer the chosen one.

Rows: `images` (a list), `prompt`, `chosen`, `rejected`, each as messages. Start from a tuned model.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "llava-hf/llava-interleave-qwen-0.5b-hf", None
DATASET, CONFIG, SPLIT = "trl-lib/rlaif-v", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "lora"  # lora, qlora (NVIDIA GPU), or none: all weights
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 5e-6, 0.1, "cosine"  # full training wants about a tenth
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 4, 4
BETA = 0.1  # a higher BETA stays nearer to the model it starts from
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "bfloat16", True, False, "flash_attention_2", True
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "vision-dpo"
EVAL_ROWS = 100  # held-out rows that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{key: row[key] for key in ("images", "prompt", "chosen", "rejected")}]


# --- end of the plan ---

import math

import torch
from kit_run import REHEARSAL, RUN, Evaluation, outcome, run, save, train
from kit_setup import attention, dtype, four_bit, load_rows, lora, prepare_model, settings
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import DPOConfig, DPOTrainer
from trl.data_utils import prepare_multimodal_messages


def main():
    # 1. The rows, and some of them held out.
    needed = ("images", "prompt", "chosen", "rejected")
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, needed, SEED, EVAL_SPLIT, EVAL_SHARE)

    # 2. Model and processor. Rows are never cut: half of a picture's tokens would be worse than none.
    model = prepare_model(AutoModelForImageTextToText, MODEL, REVISION)
    processor = AutoProcessor.from_pretrained(model, revision=None if REHEARSAL else REVISION)
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
            max_length=None,
            beta=BETA,
            remove_unused_columns=False,
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
        processing_class=processor,
        peft_config=lora(ADAPTER, **LORA),
        quantization_config=four_bit(ADAPTER),
    )

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = Measured(processor, held_out)
    measured.by("before", trainer.model)
    train(trainer, PATIENCE)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, processor, AutoModelForImageTextToText)


class Measured:
    """Is the chosen answer, per token, the likelier one? And the loss of DPO against the model as it began."""

    def __init__(self, processor, held_out):
        some = held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else []
        self.processor, self.rows = processor, list(some)
        names = {"prompt": "prompt", "reference": "chosen", "rejected": "rejected"}
        told = [{name: words(row[column]) for name, column in names.items()} for row in self.rows]
        self.evaluation = Evaluation("preference_accuracy", True, told)

    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        model.eval()
        chosen = [self.log_probability(model, row, "chosen") for row in self.rows]
        rejected = [self.log_probability(model, row, "rejected") for row in self.rows]
        model.train()
        margin = [good - bad for (good, _), (bad, _) in zip(chosen, rejected, strict=True)]
        begun = margin if when == "before" else self.evaluation.told["before"]["margin"]
        gain = [BETA * (now - then) for now, then in zip(margin, begun, strict=True)]
        loss = [max(-one, 0) + math.log1p(math.exp(-abs(one))) for one in gain]
        right = [float(a / n > b / m) for (a, n), (b, m) in zip(chosen, rejected, strict=True)]
        self.evaluation.record(when, preference_accuracy=right, loss=loss, margin=margin)

    @torch.inference_mode()
    def log_probability(self, model, row, which):
        """Of an answer's tokens, and how many they are."""
        outcome.check()
        asked = prepare_multimodal_messages(row["prompt"], images=row["images"])
        whole = self.coded(row, asked + prepare_multimodal_messages(row[which]))
        start = self.coded(row, asked, add_generation_prompt=True)["input_ids"].shape[1]
        ids = whole["input_ids"][0]
        logits = model(**{name: value.to(model.device) for name, value in whole.items()}).logits[0, :-1].float().cpu()
        each = logits.log_softmax(-1).gather(1, ids[1:, None])[start - 1 :]
        return each.sum().item(), max(1, len(each))

    def coded(self, row, messages, **more):
        text = self.processor.apply_chat_template(messages, tokenize=False, **more)
        return self.processor(images=row["images"], text=text, return_tensors="pt")


def words(turns):
    """What is said in turns, without the pictures."""
    texts = [one["content"] for one in turns]
    return " ".join(one if isinstance(one, str) else " ".join(part.get("text") or "" for part in one) for one in texts)


if __name__ == "__main__":
    run(main)
