"""Cross-entropy as a function of torch tensors."""

import torch

from ._ops import add_op_namespace_prefix, ops


@torch.library.register_fake(add_op_namespace_prefix("cross_entropy"))
def _(loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, ignore: int) -> None:
    torch._check(loss.shape == labels.shape, lambda: "loss and labels must have a value a row")
    torch._check(loss.shape[0] == logits.shape[0], lambda: "loss must have a value a row")


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, ignore: int = -100) -> torch.Tensor:
    """The loss of each row in float32, 0 where the label is `ignore`. No mean, no gradient."""
    if logits.stride(-1) != 1:
        logits = logits.contiguous()
    loss = torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)
    ops.cross_entropy(loss, logits, labels.contiguous(), ignore)
    return loss
