"""What a classifier ends with: its head, and what it says.

Knows nothing of the network before it.
"""

from collections.abc import Callable
from functools import partial
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


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,  # the exact, erf form
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}


def activation(name: str) -> nn.Module:
    """A fresh module for the activation of that name; ValueError when there is none."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
