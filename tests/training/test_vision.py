"""The image classifier's script on pictures of two colours with a tiny ViT, made here."""

import json
from pathlib import Path

import pytest

from tests.training.making import told, trained, written
from tools.preflight import on_this_machine


def pictures(path: Path) -> Path:
    from datasets import Dataset, Features, Image, Value
    from PIL import Image as Picture

    colours = [("red", (250 - i, i, 10)) for i in range(20)] + [("blue", (10, i, 250 - i)) for i in range(20)]
    rows = [{"image": Picture.new("RGB", (40, 30), colour), "label": name} for name, colour in colours]
    Dataset.from_list(rows, features=Features({"image": Image(), "label": Value("string")})).to_parquet(path)
    return path


def tiny_vit(folder: Path) -> Path:
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 128}
    ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_image_classifier_passes_its_preflight_and_learns_two_colours(home: Path) -> None:
    import torch
    from transformers import AutoModelForImageClassification

    plan = {
        "method": "image-classification",
        "model": {"id": str(tiny_vit(home / "vit")), "parameters": 150_000},
        "dataset": {"id": str(pictures(home / "pictures.parquet"))},
        "adapter": {"kind": "none"},
        "hyper": {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "max_steps": 20, "eval_steps": 10},
        "eval": {"share": 0.3},
        "hardware": {"where": "local", "name": "cpu", "device": "cpu"},
        "limits": {"minutes": 5},
    }
    folder = written(home, plan)
    on_this_machine(folder)
    findings = json.loads((folder / "preflight.json").read_text())["findings"]
    assert all(one["ok"] for one in findings), findings
    trained(folder)
    assert told(folder, "eval.json")["after"]["means"]["accuracy"] == 1.0
    model = AutoModelForImageClassification.from_pretrained(folder / "model")
    assert set(model.config.label2id) == {"red", "blue"}
    assert torch.isfinite(model(torch.zeros(1, 3, 32, 32)).logits).all()
