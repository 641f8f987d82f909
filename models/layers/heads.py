"""What a classifier ends with: its head, and what it says.

Knows nothing of the network before it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Classified(NamedTuple):
    """What a classifier says of images: logits (B, num_labels), and what they are read from."""

    logits: Tensor
    embedding: Tensor  # (B, D)


class MLPHead(nn.Module):
    """The head that ViT is pre-trained with: one hidden layer with tanh, (B, D) -> (B, labels)."""

    def __init__(self, width: int, num_labels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, num_labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.tanh(self.hidden(x)))
