"""A linear layer with what follows it: an activation, and a residual to add.

Knows nothing of networks. It is the seam at which a faster matrix product takes torch's place.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Dense(nn.Module):
    """`forward(x, residual)` gives activation(x W^T + b) + residual: (..., C) -> (..., D).

    The activation, the bias and the residual may be missing.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.weight = frozen(weight)  # (D, C)
        self.bias = None if bias is None else frozen(bias)  # (D,)
        self.activation = activation

    @classmethod
    def of(cls, layer: nn.Linear, activation: nn.Module | None = None) -> Self:
        """The layer's own weights, shared, and the activation behind it."""
        return cls(layer.weight, layer.bias, activation)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        x = linear(x, self.weight, self.bias)  # (..., D)
        if self.activation is not None:
            x = self.activation(x)
        return x if residual is None else x + residual


def frozen(tensor: Tensor) -> nn.Parameter:
    """The tensor as a parameter that asks for no gradient, in the same memory."""
    return nn.Parameter(tensor.detach(), requires_grad=False)


def stacked(layers: list[nn.Linear], scales: list[float]) -> Dense:
    """Layers of one input as one: their outputs, each times its scale, side by side."""
    weights, biases = [], []
    for layer, scale in zip(layers, scales, strict=True):
        weights.append(scaled(layer.weight, scale))
        biases.append(None if layer.bias is None else scaled(layer.bias, scale))
    present = [bias for bias in biases if bias is not None]
    return Dense(torch.cat(weights), torch.cat(present) if present else None)


def scaled(tensor: Tensor, factor: float) -> Tensor:
    """The tensor times a factor, rounded once."""
    return (tensor.detach().double() * factor).to(tensor.dtype)
