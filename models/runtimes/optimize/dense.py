"""A linear layer with an optional activation and residual; the passes for oneDNN replace it."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Dense(nn.Module):
    """`forward(x, residual)` computes activation(x W^T + b) + residual: (..., C) -> (..., D).

    The activation, the bias and the residual are optional.
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
        """Build a dense layer that shares the weights of a linear layer."""
        return cls(layer.weight, layer.bias, activation)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        x = linear(x, self.weight, self.bias)  # (..., D)
        if self.activation is not None:
            x = self.activation(x)
        return x if residual is None else x + residual


def frozen(tensor: Tensor) -> nn.Parameter:
    """Return the tensor as a parameter without gradient, in the same memory."""
    return nn.Parameter(tensor.detach(), requires_grad=False)


def join_linears(layers: list[nn.Linear], scales: list[float]) -> Dense:
    """Join layers that share their input into one, which concatenates the scaled outputs."""
    weights, biases = [], []
    for layer, scale in zip(layers, scales, strict=True):
        weights.append(scaled(layer.weight, scale))
        biases.append(None if layer.bias is None else scaled(layer.bias, scale))
    present = [bias for bias in biases if bias is not None]
    return Dense(torch.cat(weights), torch.cat(present) if present else None)


def scaled(tensor: Tensor, factor: float) -> Tensor:
    """Return the tensor times a factor, computed in float64 and rounded once."""
    return (tensor.detach().double() * factor).to(tensor.dtype)
