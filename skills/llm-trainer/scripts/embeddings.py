# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0",
# ]
# ///
# ruff: noqa: E402
"""Sentence embeddings: texts that belong together come to lie close, all others further away.

Rows: `anchor` and `positive`, and `negative` if there is a text that is near but wrong. All other texts of a batch then
count as wrong, and what is measured is how often an anchor finds its own text. Or `sentence1`, `sentence2` and `score`,
the higher the nearer (0 and 1 will do): pairs come to lie in the order of their scores, whatever their scale, and what
is measured is the rank correlation.

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
PAIRS, SCORED = ("anchor", "positive", "negative"), ("sentence1", "sentence2", "score")  # what rows may hold


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [{key: row[key] for key in (*PAIRS, *SCORED) if key in row}]


# --- end of the plan ---

import math

import torch
from kit_run import REHEARSAL, RUN, Evaluation, Fault, outcome, run, save, train, write_json
from kit_scoring import shown
from kit_setup import attention, dtype, load_rows, lora, prepare_model, settings
from peft import get_peft_model
from transformers import AutoModel, AutoTokenizer, Trainer, TrainingArguments


def main():
    # 1. The pairs, and some of them held out.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, (), SEED, EVAL_SPLIT, EVAL_SHARE)
    texts, scored = kind_of(rows)

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
    lengths = [len(ids) for ids in tokenizer(rows[:200][texts[1]])["input_ids"]]
    outcome.note(longest=max(lengths), cut=sum(n > (MAX_LENGTH or 10**9) for n in lengths) / len(lengths))

    def coded(texts):
        return tokenizer(
            texts, padding=True, truncation=MAX_LENGTH is not None, max_length=MAX_LENGTH, return_tensors="pt"
        )

    def collate(rows):
        batch = {name: coded([row[name] for row in rows]) for name in texts if rows[0].get(name)}
        return batch | ({"score": torch.tensor([float(row["score"]) for row in rows])} if scored else {})

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
    trainer = (Ordering if scored else Contrastive)(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=held_out,
        data_collator=collate,
        processing_class=tokenizer,
    )

    # 3. Measure, train, measure again: the same rows by the same code.
    measured = (RankCorrelation if scored else Recall)(coded, held_out)
    measured.by("before", trainer.model)
    train(trainer, PATIENCE)
    measured.by("after", trainer.model)

    # 4. What stays.
    save(trainer, tokenizer, AutoModel)

    describe(RUN / "model", trainer.model.config.hidden_size)


def kind_of(rows):
    """The columns that hold texts, and whether each pair has a score."""
    named, first = set(rows.column_names), rows[0]
    if set(SCORED) <= named:
        values = set(rows["score"])
        if not all(isinstance(one, int | float) and math.isfinite(one) for one in values):
            raise Fault("columns", "A score is no number.", "Let to_rows() leave such rows out.")
        if len(values) < 2:
            what = f"Every pair has the score {values.pop()}: there is no order to learn."
            raise Fault("labels", what, "Let to_rows() give such pairs as anchor and positive.")
        return SCORED[:2], True
    if {"anchor", "positive"} <= named:
        return PAIRS, False
    what = f"The rows have {', '.join(first)}, but {' and '.join(PAIRS[:2])}, or {', '.join(SCORED)}, are needed."
    raise Fault("columns", what, "Let to_rows() return these columns.")


def describe(folder, width):
    """How texts become vectors, for readers and for sentence-transformers, which loads the folder with it."""
    write_json(folder / "pooling.json", {"pooling": POOLING, "normalise": True, "max_length": MAX_LENGTH})
    parts = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    for path in filter(None, parts):
        (folder / path).mkdir(exist_ok=True)
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(parts.items())
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_LENGTH, "do_lower_case": False})
    pooling = {"pooling_mode_mean_tokens": POOLING == "mean", "pooling_mode_lasttoken": POOLING == "last"}
    pooling |= {"word_embedding_dimension": width, "pooling_mode_cls_token": False}
    write_json(folder / "1_Pooling" / "config.json", pooling)


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

    def loss_of(self, model, inputs):
        anchors = vectors(model, inputs["anchor"])
        others = torch.cat([vectors(model, inputs[name]) for name in ("positive", "negative") if name in inputs])
        logits = anchors @ others.T / TEMPERATURE
        return torch.nn.functional.cross_entropy(logits, torch.arange(len(anchors), device=logits.device))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = self.loss_of(model, inputs)
        return (loss, {}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None


class Ordering(Contrastive):
    """Of any two pairs in the batch, the one with the higher score must lie closer (the loss called CoSENT)."""

    def loss_of(self, model, inputs):
        near = (vectors(model, inputs["sentence1"]) * vectors(model, inputs["sentence2"])).sum(-1) / TEMPERATURE
        wrong = (near[:, None] - near[None, :])[inputs["score"][:, None] < inputs["score"][None, :]]
        return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)


class Measured:
    """The held-out rows, the same before and after."""

    metric, columns = "", ()

    def __init__(self, coded, held_out):
        most = 4 if REHEARSAL else EVAL_ROWS
        self.coded, self.rows = coded, list(held_out.select(range(min(len(held_out), most))) if held_out else [])
        self.evaluation = Evaluation(self.metric, True, [self.told(row) for row in self.rows])

    @torch.inference_mode()
    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        model.eval()
        first, second = (self.all_vectors(model, name) for name in self.columns)
        model.train()
        self.evaluation.record(when, **self.values(first, second))

    def all_vectors(self, model, name):
        parts = []
        for begin in range(0, len(self.rows), 32):
            outcome.check()
            batch = self.coded([row[name] for row in self.rows[begin : begin + 32]]).to(model.device)
            parts.append(vectors(model, batch).cpu())
        return torch.cat(parts)


class Recall(Measured):
    """Does an anchor find its own text among all held-out ones? (recall at 1), and the contrastive loss over them."""

    metric, columns = "recall_at_1", ("anchor", "positive")

    def told(self, row):
        return {"prompt": shown(row["anchor"]), "reference": shown(row["positive"])}

    def values(self, anchors, positives):
        near = anchors @ positives.T
        own = torch.arange(len(near))
        loss = torch.nn.functional.cross_entropy(near / TEMPERATURE, own, reduction="none").tolist()
        texts = [row["positive"] for row in self.rows]
        found = near.argmax(-1).tolist()
        right = [float(texts[i] == texts[at]) for i, at in enumerate(found)]
        return {"recall_at_1": right, "loss": loss, "answers": [shown(texts[at]) for at in found]}


class RankCorrelation(Measured):
    """Do the pairs lie in the order of their scores? Of each row its share in Spearman's correlation, their mean."""

    metric, columns = "spearman", ("sentence1", "sentence2")

    def told(self, row):
        return {
            "prompt": f"{shown(row['sentence1'])}\n{shown(row['sentence2'])}",
            "reference": f"score {row['score']:g}",
        }

    def values(self, first, second):
        near = (first * second).sum(-1)
        shares = ranked(near) * ranked(torch.tensor([float(row["score"]) for row in self.rows]))
        return {"spearman": shares.tolist(), "answers": [f"cosine {one:.3f}" for one in near.tolist()]}


def ranked(values):
    """Ranks, those of equal values shared, brought to mean 0 and variance 1."""
    _, place, count = torch.unique(values, return_inverse=True, return_counts=True)
    ranks = (count.cumsum(0) - (count - 1) / 2).double()[place]
    return (ranks - ranks.mean()) / ranks.std(correction=0).clamp(min=1e-12)


if __name__ == "__main__":
    run(main)
