# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "torch==2.13.0", "transformers==5.22.2", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "trackio==0.43.0", "scipy==1.17.1",
# ]
# ///
# ruff: noqa: E402
"""Object detection: where things are in a picture, and what they are (YOLOS, DETR and their kin).

Rows: `image` and `objects`, a dict of two lists: `bbox` as [x, y, width, height] in pixels, and `category`, as words or
numbers.

Run it with `python`, `uv run` or `accelerate launch`; run it again and it goes on from its last checkpoint.
"""

# --- the plan: change what you like ---
MODEL, REVISION = "hustvl/yolos-tiny", None
DATASET, CONFIG, SPLIT = "cppe-5", None, "train"
EVAL_SPLIT, EVAL_SHARE = None, 0.05  # a split of its own, or a share of the training rows
SEED = 42
ADAPTER = "none"  # lora, or none: all weights
LORA = {
    "r": 16,
    "lora_alpha": 32,
    "target_modules": "all-linear",
    "modules_to_save": ["class_labels_classifier", "bbox_predictor"],
}
LEARNING_RATE, WARMUP_STEPS, SCHEDULER = 5e-5, 0.1, "cosine"  # with LoRA about ten times as much
EPOCHS, MAX_STEPS = 1.0, -1  # MAX_STEPS wins when it is not -1
BATCH, ACCUMULATION = 8, 2
WEIGHT_DECAY, MAX_GRAD_NORM, OPTIM = 0.0001, 0.1, "adamw_torch_fused"
DTYPE, BF16, FP16, ATTENTION, CHECKPOINTING = "float32", True, False, "sdpa", False
IMAGE_SIZE = 640  # the longest edge; None: what the model's own processor does
LOG_STEPS, EVAL_STEPS, PATIENCE = 10, 0.1, 3  # steps, or a share of all steps
PROJECT, RUN_NAME = "modelsmith", "object-detection"
EVAL_ROWS = 500  # held-out rows that are measured before and after


def to_rows(row):
    """One row of the dataset as the trainer wants it: a list of none, one or several."""
    return [
        {"image": row["image"], "objects": {"bbox": row["objects"]["bbox"], "category": row["objects"]["category"]}}
    ]


# --- end of the plan ---

import random

import torch
from kit_run import REHEARSAL, RUN, Evaluation, Fault, outcome, run, save, train
from kit_setup import attention, dtype, load_rows, lora, prepare_model, settings
from peft import get_peft_model
from PIL import ImageOps
from transformers import AutoImageProcessor, AutoModelForObjectDetection, Trainer, TrainingArguments

SAME = 0.5  # from this overlap on a guess and an object are the same place


def main():
    # 1. The rows, some held out, and the categories there are.
    rows, held_out = load_rows(DATASET, CONFIG, SPLIT, to_rows, ("image", "objects"), SEED, EVAL_SPLIT, EVAL_SHARE)
    check(rows["objects"])
    found = {one for objects in rows["objects"] for one in objects["category"]}
    labels = [str(one) for one in sorted(found, key=lambda one: (isinstance(one, str), one))]
    numbers = {name: number for number, name in enumerate(labels)}
    outcome.note(labels=labels)

    # 2. The model with new heads, one output per category and one for "nothing here".
    path = prepare_model(AutoModelForObjectDetection, MODEL, REVISION, num_labels=len(labels))
    size = {"size": {"longest_edge": IMAGE_SIZE, "shortest_edge": IMAGE_SIZE}} if IMAGE_SIZE else {}
    processor = AutoImageProcessor.from_pretrained(path, revision=None if REHEARSAL else REVISION, **size)
    model = AutoModelForObjectDetection.from_pretrained(
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
        """Pictures and boxes as tensors; boxes become centre and size, as shares of the picture."""
        pictures, notes = [], []
        for number, row in enumerate(rows):
            picture, boxes = row["image"].convert("RGB"), row["objects"]["bbox"]
            if mirror and random.random() < 0.5:
                boxes = [[picture.width - x - width, y, width, height] for x, y, width, height in boxes]
                picture = ImageOps.mirror(picture)
            kinds = [numbers[str(one)] for one in row["objects"]["category"]]
            objects = [
                {"bbox": box, "category_id": kind, "area": box[2] * box[3], "iscrowd": 0}
                for box, kind in zip(boxes, kinds, strict=True)
            ]
            pictures.append(picture)
            notes.append({"image_id": number, "annotations": objects})
        return dict(processor(images=pictures, annotations=notes, return_tensors="pt"))

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
            prediction_loss_only=True,
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
    save(trainer, processor, AutoModelForObjectDetection)


def check(objects):
    """Boxes that are none would only be seen as a loss that is NaN."""
    for number, one in enumerate(objects):
        if len(one["bbox"]) != len(one["category"]):
            what = f"Row {number} has {len(one['bbox'])} boxes and {len(one['category'])} categories."
            raise Fault("columns", what, "Let to_rows() give one category for each box.")
        for box in one["bbox"]:
            if len(box) != 4 or min(box[2:]) <= 0:
                raise Fault("columns", f"Row {number} has the box {box}.", "A box is [x, y, width, height] in pixels.")
    if not any(one["bbox"] for one in objects):
        raise Fault("labels", "No picture has a box.", "Let to_rows() return the boxes.")


class Measured:
    """Of the objects in a picture, how many are found: with as many best guesses as there are objects, right in kind
    and place. And the loss of each picture."""

    def __init__(self, coded, held_out, labels):
        self.coded, self.labels = coded, labels
        rows = list(held_out.select(range(min(len(held_out), 4 if REHEARSAL else EVAL_ROWS))) if held_out else [])
        self.rows = [row for row in rows if row["objects"]["bbox"]]
        told = [{"prompt": f"picture {i}", "reference": self.shown(row)} for i, row in enumerate(self.rows)]
        self.evaluation = Evaluation("recall", True, told)

    def shown(self, row):
        pairs = zip(row["objects"]["category"], row["objects"]["bbox"], strict=True)
        return ", ".join(f"{kind} at {[round(one) for one in box]}" for kind, box in pairs)

    @torch.inference_mode()
    def by(self, when, model):
        if not self.rows or (when == "before" and self.evaluation.has("before")):
            return
        model.eval()
        recall, loss, said = [], [], []
        for row in self.rows:
            outcome.check()
            batch = self.coded([row])
            truth = batch.pop("labels")[0]
            batch = {name: one.to(model.device) for name, one in batch.items()}
            out = model(**batch, labels=[{name: one.to(model.device) for name, one in truth.items()}])
            scores, kinds = out.logits[0].float().softmax(-1)[:, :-1].max(-1)  # the last one is "nothing here"
            best = scores.topk(min(len(truth["class_labels"]), len(scores))).indices
            boxes, kinds = out.pred_boxes[0][best].float().cpu(), kinds[best].cpu()
            recall.append(found(boxes, kinds, truth))
            loss.append(out.loss.item())
            said.append(self.told(boxes, kinds, row["image"].size))
        model.train()
        self.evaluation.record(when, recall=recall, loss=loss, answers=said)

    def told(self, boxes, kinds, size):
        places = [[round((x - w / 2) * size[0]), round((y - h / 2) * size[1]), round(w * size[0]), round(h * size[1])]
                  for x, y, w, h in boxes.tolist()]  # fmt: skip
        return ", ".join(f"{self.labels[kind]} at {box}" for kind, box in zip(kinds.tolist(), places, strict=True))


def found(boxes, kinds, truth):
    """The share of objects that a guess meets; a guess is used once."""
    overlaps, free = overlap(corners(boxes), corners(truth["boxes"].cpu())), set(range(len(boxes)))
    hits = 0
    for number, kind in enumerate(truth["class_labels"].tolist()):
        met = [one for one in free if kinds[one] == kind and overlaps[one, number] >= SAME]
        if met:
            free.discard(max(met, key=lambda one: overlaps[one, number].item()))
            hits += 1
    return hits / len(truth["class_labels"])


def corners(boxes):
    x, y, w, h = boxes.unbind(-1)
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), -1)


def overlap(ours, theirs):
    """Intersection over union, each of ours with each of theirs."""
    begin = torch.maximum(ours[:, None, :2], theirs[None, :, :2])
    end = torch.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    shared = (end - begin).clamp(min=0).prod(-1)
    sizes = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (ours, theirs)]
    return shared / (sizes[0][:, None] + sizes[1][None, :] - shared)


if __name__ == "__main__":
    run(main)
