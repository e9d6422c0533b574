"""The truth about rotary position embedding, halves rotated as Llama and Qwen do: `x * cos + rotate(x) * sin`.

x is (tokens, heads, D), cos and sin are (tokens, D) in x's dtype; both products are rounded before they are added.
"""

import torch

OP, TITLE = "rope", "rotary position embedding"
NAMES = ["rotary", "rotary embedding", "rotary position embedding"]
SCHEMA = "rope(Tensor! out, Tensor x, Tensor cos, Tensor sin) -> ()"
DTYPES = ["float32", "float16", "bfloat16"]
LAYER, MODULES = None, None
SHAPES = [
    {"tokens": tokens, "heads": heads, "D": width}
    for tokens, heads, width in [
        (1, 1, 2), (0, 2, 64), (1, 3, 6), (3, 1, 10), (2, 5, 32), (7, 3, 64), (3, 2, 66), (5, 4, 128), (1, 32, 128),
        (2, 8, 256), (17, 2, 80), (9, 1, 130),
    ]
]  # fmt: skip
TYPICAL = [{"tokens": 4096, "heads": 32, "D": 128}, {"tokens": 1, "heads": 32, "D": 128}]


def rotated(x):
    left, right = x.chunk(2, -1)
    return torch.cat([-right, left], -1)


def reference(x, cos, sin):
    """As the models' attention does it."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    return x * cos + rotated(x) * sin


def oracle(x, cos, sin, rounded):
    """Arguments come as float64; `rounded` gives what the dtype under test keeps of a value."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    return rounded(x * cos) + rounded(rotated(x) * sin)


def magnitude(x, cos, sin):
    """How large the numbers are that cancel in a result: its error is measured in their units."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    return (x * cos).abs() + (rotated(x) * sin).abs()


def of_config(config, tokens):
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return [
        {"tokens": tokens, "heads": heads, "D": width}
        for heads in (config.num_attention_heads, config.num_key_value_heads)
    ]


def make(size, dtype, generator, scale=1.0):
    x = torch.randn(size["tokens"], size["heads"], size["D"], generator=generator) * scale
    angles = torch.rand(size["tokens"], size["D"] // 2, generator=generator) * 6.3
    angles = torch.cat([angles, angles], -1)
    return {"x": x.to(dtype), "cos": angles.cos().to(dtype), "sin": angles.sin().to(dtype)}


def empty(x, cos, sin):
    return {"out": torch.empty(x.shape, dtype=x.dtype, device=x.device)}


def cost(x, cos, sin):
    """Bytes that must move and operations that must be done, at the least."""
    return {"bytes": (2 * x.numel() + cos.numel() + sin.numel()) * x.element_size(), "flops": 3 * x.numel()}


def refused(x, cos, sin):
    """Calls beyond the general ones that must be refused."""
    return [
        ("cos of another width", {"x": x, "cos": cos[..., :-2].contiguous(), "sin": sin}),
        ("sin for fewer tokens", {"x": x, "cos": cos, "sin": sin[:-1]}),
    ]
