"""The image classifier's script on pictures of two colours with a tiny ViT, made here."""

import json
import random
from pathlib import Path

import pytest

from tests.tiny_model import tiny_model
from tests.training.making import told, trained, written
from tools.preflight import on_this_machine

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


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


def tiny_llava(folder: Path) -> Path:
    """A CLIP tower of two layers before the tiny Qwen3, with a template that knows pictures."""
    import torch
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        Qwen3Config,
    )

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    image = tokenizer.convert_tokens_to_ids("<image>")
    text = Qwen3Config.from_pretrained(tiny_model())
    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 128}
    vision = CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=64)
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=image, image_seq_length=16)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>", chat_template=TEMPLATE,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def places(path: Path) -> Path:
    """Grey pictures with one coloured square each, and where it is."""
    from datasets import Dataset, Features, Image, List, Value
    from PIL import Image as Picture

    features = {"image": Image(), "objects": {"bbox": List(List(Value("float32"))), "category": List(Value("string"))}}
    rows = []
    for number in range(40):
        draw = random.Random(number)
        side, kind = draw.randint(16, 30), draw.choice(["red", "blue"])
        x, y = draw.randint(0, 64 - side), draw.randint(0, 64 - side)
        picture = Picture.new("RGB", (64, 64), (128, 128, 128))
        picture.paste((240, 20, 20) if kind == "red" else (20, 20, 240), (x, y, x + side, y + side))
        rows.append({"image": picture, "objects": {"bbox": [[x, y, side, side]], "category": [kind]}})
    Dataset.from_list(rows, features=Features(features)).to_parquet(path)
    return path


def tiny_yolos(folder: Path) -> Path:
    import torch
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 128}
    config = YolosConfig(**sizes, image_size=[64, 64], patch_size=8, num_detection_tokens=4)
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 64}).save_pretrained(folder)
    return folder


ASKED = "def to_rows(row):\n    asked = [{'role': 'user', 'content': 'Which colour?'}]\n"
SAID = "    said = [{'role': 'assistant', 'content': row['label']}]\n"
OTHER = "    other = [{'role': 'assistant', 'content': 'no idea'}]\n"
MAPPINGS = {
    "vision-sft": f"{ASKED}{SAID}    return [{{'images': [row['image']], 'prompt': asked, 'completion': said}}]",
    "vision-dpo": f"{ASKED}{SAID}{OTHER}"
    "    return [{'images': [row['image']], 'prompt': asked, 'chosen': said, 'rejected': other}]",
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", MAPPINGS)
def test_a_vision_language_model_passes_its_preflight_and_learns_from_pictures(method: str, home: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    plan = {
        "method": method,
        "model": {"id": str(tiny_llava(home / "llava")), "parameters": 3_000_000},
        "dataset": {"id": str(pictures(home / "pictures.parquet")), "mapping": MAPPINGS[method]},
        "adapter": {"kind": "lora", "r": 8, "alpha": 16, "task_type": "CAUSAL_LM"},
        "hyper": {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "max_steps": 8, "eval_steps": 4},
        "eval": {"share": 0.3},
        "hardware": {"where": "local", "name": "cpu", "device": "cpu"},
        "limits": {"minutes": 5},
    }
    folder = written(home, plan)
    on_this_machine(folder)
    findings = json.loads((folder / "preflight.json").read_text())["findings"]
    assert all(one["ok"] for one in findings), findings
    trained(folder)
    means = [told(folder, "eval.json")[when]["means"]["loss"] for when in ("before", "after")]
    assert means[1] < means[0] - 0.3
    AutoProcessor.from_pretrained(folder / "model")
    assert AutoModelForImageTextToText.from_pretrained(folder / "model").can_generate()


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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_object_detector_passes_its_preflight_and_learns_where_squares_are(home: Path) -> None:
    import torch
    from transformers import AutoModelForObjectDetection

    plan = {
        "method": "object-detection",
        "model": {"id": str(tiny_yolos(home / "yolos")), "parameters": 150_000},
        "dataset": {"id": str(places(home / "places.parquet"))},
        "adapter": {"kind": "none"},
        "hyper": {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "max_steps": 40, "eval_steps": 20}
        | {"image_size": 64, "max_grad_norm": 0.1},
        "eval": {"share": 0.25},
        "hardware": {"where": "local", "name": "cpu", "device": "cpu"},
        "limits": {"minutes": 5},
    }
    folder = written(home, plan)
    on_this_machine(folder)
    findings = json.loads((folder / "preflight.json").read_text())["findings"]
    assert all(one["ok"] for one in findings), findings
    trained(folder)
    judged = told(folder, "eval.json")
    assert judged["metric"] == "recall" and len(judged["after"]["recall"]) == 10
    assert judged["after"]["means"]["loss"] < judged["before"]["means"]["loss"] - 0.5
    model = AutoModelForObjectDetection.from_pretrained(folder / "model")
    assert set(model.config.label2id) == {"red", "blue"}
    assert torch.isfinite(model(torch.zeros(1, 3, 64, 64)).pred_boxes).all()
