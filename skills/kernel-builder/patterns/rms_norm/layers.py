"""The layer that takes the place of a model's own RMSNorm; it keeps that module's parameters."""

import torch
from torch import nn

from .functions import rms_norm


class RMSNorm(nn.Module):
    has_backward = False
    can_torch_compile = True

    weight: torch.Tensor
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden_states, self.weight, self.variance_epsilon)
