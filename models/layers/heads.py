"""Activations by their config names, the MLP head, and the output of a classifier."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """An approximation of GELU, of the same shape: x sigmoid(1.702 x), arXiv:1606.08415."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {  # by the value of hidden_act in config.json
    "gelu": nn.GELU,  # exact, with erf
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "gelu_fast": partial(nn.GELU, approximate="tanh"),
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}


class ClassifierOutput(NamedTuple):
    """The logits of a batch, and the embedding that the head computes them from."""

    logits: Tensor  # (B, num_labels)
    embedding: Tensor  # (B, D), or (B, 2 D) for the class token and the mean of the patches


class MLPHead(nn.Module):
    """The head of ViT's pre-training, with one hidden layer and tanh: (B, D) -> (B, num_labels)."""

    def __init__(self, width: int, num_labels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, num_labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.tanh(self.hidden(x)))  # (B, num_labels)


def activation(name: str) -> nn.Module:
    """Return a new module of the activation. ValueError for an unknown name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
