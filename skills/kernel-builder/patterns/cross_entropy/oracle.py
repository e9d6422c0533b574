"""The truth about cross-entropy of each row: log(sum(exp(logits))) - logits[label], in float32 whatever the logits are.

Rows whose label is `ignore` give 0, and NaN where it is no column. No mean is taken: that is the caller's.
"""

import torch
import torch.nn.functional as F

OP, TITLE = "cross_entropy", "cross-entropy"
NAMES = ["cross entropy loss", "softmax cross-entropy"]
SCHEMA = "cross_entropy(Tensor! loss, Tensor logits, Tensor labels, int ignore) -> ()"
DTYPES = ["float32", "float16", "bfloat16"]
LAYER, MODULES = None, None
VECTOR = ["load"]  # a result is one number: nothing wide to store
SHAPES = [
    {"rows": rows, "D": width}
    for rows, width in [
        (1, 1), (0, 64), (3, 1), (1, 7), (5, 31), (9, 32), (33, 33), (7, 128), (4, 129), (3, 1000), (2, 1025),
        (3, 4095), (2, 8192), (1, 32001),
    ]
]  # fmt: skip
TYPICAL = [{"rows": 512, "D": 151936}, {"rows": 8, "D": 151936}]


def reference(logits, labels, ignore):
    """As the models' loss does it: logits are widened first."""
    return F.cross_entropy(logits.float(), labels, reduction="none", ignore_index=ignore)


def functional(logits, labels, ignore):
    return F.cross_entropy(logits, labels, reduction="none", ignore_index=ignore).float()


def oracle(logits, labels, ignore):
    """Logits come as float64."""
    return F.cross_entropy(logits, labels, reduction="none", ignore_index=ignore)


def special(logits, labels, ignore):
    """Calls beyond the general ones, with what belongs in their result: torch itself refuses such a label."""
    none = torch.full(labels.shape, torch.nan)
    return [
        (f"a label {what}", {"logits": logits, "labels": torch.full_like(labels, label), "ignore": ignore}, none)
        for what, label in [("one too large", logits.shape[-1]), ("below 0", -1), ("far outside", 1 << 40)]
    ]


def magnitude(logits, labels, ignore):
    """How large the numbers are that cancel in a result: its error is measured in their units."""
    most = logits.amax(-1)
    own = logits.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (own - most).abs() + (logits - most.unsqueeze(-1)).exp().sum(-1).log().abs() + 1.0


def of_config(config, tokens):
    return [{"rows": min(tokens, 512), "D": config.vocab_size}]


def make(size, dtype, generator, scale=1.0):
    """Arguments without the outputs; some rows are ignored."""
    rows, width = size["rows"], size["D"]
    logits = torch.randn(rows, width, generator=generator) * scale * 2
    labels = torch.randint(width, (rows,), generator=generator)
    skipped = torch.rand(rows, generator=generator) < (0.2 if rows > 2 else 0.0)
    return {"logits": logits.to(dtype), "labels": labels.masked_fill(skipped, -100), "ignore": -100}


def empty(logits, labels, ignore):
    return {"loss": torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)}


def cost(logits, labels, ignore):
    """Bytes that must move and operations that must be done, at the least."""
    rows = logits.shape[0]
    return {"bytes": logits.numel() * logits.element_size() + 12 * rows, "flops": 3 * logits.numel()}


def refused(logits, labels, ignore):
    """Calls beyond the general ones that must be refused."""
    return [("labels for fewer rows", {"logits": logits, "labels": labels[:-1], "ignore": ignore})]
