"""Makes ./tiny-vit, a very small random image classifier, and pictures.parquet: 48 red, green and blue squares."""

import io

import numpy as np
import pandas as pd
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

torch.manual_seed(0)
config = ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
)
ViTForImageClassification(config).save_pretrained("tiny-vit")
ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained("tiny-vit")

rng, rows = np.random.default_rng(0), []
for number in range(48):
    channel = number % 3
    pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
    pixels[..., channel] += 180
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    rows.append({"image": {"bytes": buffer.getvalue(), "path": None}, "label": ["red", "green", "blue"][channel]})
pd.DataFrame(rows).to_parquet("pictures.parquet")
