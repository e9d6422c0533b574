# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Sentence embeddings: texts that belong together come to lie close, all others of the batch further away.

Rows: `anchor` and `positive`, and `negative` if there is a text that is near but wrong.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "answerdotai/ModernBERT-base", None
DATASET, CONFIG, SPLIT = "sentence-transformers/all-nli", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "none"  # lora, or none: all weights
LORA = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "task_type": "FEATURE_EXTRACTION",
}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 2e-5, 0.1, "cosine"  # with LoRA about ten times as much
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 32, 1
MAX_LENGTH = 256
POOLING = "mean"  # mean of all tokens; last: the last token, for models that only look back
TEMPERATURE = 0.05  # smaller: the nearest wrong texts count more
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0, 1.0, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "float32", True, False, "sdpa", False
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "embeddings"
EVAL_ROWS = 500  # held-out pairs that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{key: row[key] for key in ("anchor", "positive", "negative") if key in row}]


# --- end of the plan ---

import torch
from kit_run import REHEARSAL, RUN, Evaluation, outcome, run, save, train, write_json
from kit_scoring import shown
from kit_setup import attention, dtype, load_rows, lora, prepare_model, settings
from peft import get_peft_model
from transformers import AutoModel, AutoTokenizer, Trainer, TrainingArguments


def main():
    # 1. The pairs, and some of them held out.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, ("anchor", "positive"), SEED, EVAL_SPLIT, EVAL_SHARE)

    # 2. The model without any head. A text's vector is pooled from its tokens and brought to length 1.
    path = prepare_model(AutoModel, MODEL, REVISION)
    tokenizer = AutoTokenizer.from_pretrained(path, revision=None if REHEARSAL else REVISION)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModel.from_pretrained(
        path,
        revision=None if REHEARSAL else REVISION,
        dtype=dtype(DTYPE),
        attn_implementation=attention(ATTENTION),
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    if ADAPTER != "none":
        model = get_peft_model(model, lora(ADAPTER, **LORA))
        if CHECKPOINTING:
            model.enable_input_require_grads()
    lengths = [len(ids) for ids in tokenizer(rows[:200]["positive"])["input_ids"]]
    outcome.note(longest=max(lengths), cut=sum(n > (MAX_LENGTH or 10**9) for n in lengths) / len(lengths))

    def coded(texts):
        return tokenizer(
            texts, padding=True, truncation=MAX_LENGTH is not None, max_length=MAX_LENGTH, return_tensors="pt"
        )

    def collate(rows):
        names = [name for name in ("anchor", "positive", "negative") if rows[0].get(name)]
        return {name: coded([row[name] for row in rows]) for name in names}

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
            remove_unused_columns=False,
            dataloader_drop_last=len(rows) >= BATCH,  # the loss depends on how many texts are in a batch
            label_names=[],
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
    trainer = Contrastive(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=held_out,
        data_collator=collate,
        processing_class=tokenizer,
    )

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = Measured(coded, held_out)
    measured.by("before", trainer.model)
    train(trainer, PATIENCE)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, tokenizer, AutoModel)

    write_json(RUN / "model" / "pooling.json", {"pooling": POOLING, "normalise": True, "max_length": MAX_LENGTH})


def vectors(model, batch):
    hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"]
    if POOLING == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        pooled = hidden[torch.arange(len(hidden)), (mask * places).argmax(-1)]
    else:
        pooled = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(pooled.float(), dim=-1)


class Contrastive(Trainer):
    """Of all texts in the batch, an anchor must find its own."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        anchors = vectors(model, inputs["anchor"])
        others = torch.cat([vectors(model, inputs[name]) for name in ("positive", "negative") if name in inputs])
        logits = anchors @ others.T / TEMPERATURE
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(anchors), device=logits.device))
        return (loss, {"logits": logits}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None


class Measured:
    """Does an anchor find its own text among all held-out ones? (recall at 1), and the contrastive loss over them."""

    def __init__(self, coded, held_out):
        self.coded, self.rows = (
            coded,
            list(held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else []),
        )
        told = [{"prompt": shown(row["anchor"]), "reference": shown(row["positive"])} for row in self.rows]
        self.evaluation = Evaluation("recall_at_1", True, told)

    @torch.inference_mode()
    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        model.eval()
        near = self.all_vectors(model, "anchor") @ self.all_vectors(model, "positive").T
        own = torch.arange(len(near))
        loss = torch.nn.functional.cross_entropy(near / TEMPERATURE, own, reduction="none").tolist()
        texts = [row["positive"] for row in self.rows]
        found = near.argmax(-1).tolist()
        right = [float(texts[i] == texts[at]) for i, at in enumerate(found)]
        model.train()
        self.evaluation.record(when, recall_at_1=right, loss=loss, answers=[shown(texts[at]) for at in found])

    def all_vectors(self, model, name):
        parts = []
        for begin in range(0, len(self.rows), 32):
            outcome.check()
            batch = self.coded([row[name] for row in self.rows[begin : begin + 32]]).to(model.device)
            parts.append(vectors(model, batch).cpu())
        return torch.cat(parts)


if __name__ == "__main__":
    run(main)
