"""Convolutions through oneDNN: channels-last, weights packed, the activation in the same pass.

Knows nothing of networks.
"""

from typing import cast

import torch
from torch import Tensor, nn

from models.runtimes.optimize import onednn
from models.runtimes.optimize.blocks import Depthwise
from models.runtimes.optimize.rewriting import rewrite
from models.runtimes.optimize.trial import passes


class PackedConvolution(nn.Module):
    """A convolution and its activation in one pass: (B, C, H, W) -> (B, D, H', W')."""

    def __init__(self, plain: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        fused = onednn.eltwise(activation)
        self.fused = onednn.NONE if fused is None else fused
        self.activation = activation if fused is None else None
        self.plain = plain
        self.weight = onednn.pack_convolution(plain)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        x = onednn.convolution(x, self.weight, self.plain, self.fused)
        return x if self.activation is None else self.activation(x)


def packed(plain: Depthwise) -> Depthwise:
    """The activation in the same pass as the convolution."""
    layer = cast(nn.Conv2d, plain.convolution)
    convolution = PackedConvolution(layer, plain.activation)
    return Depthwise(convolution, nn.Identity())


def convolutions_by_onednn(network: nn.Module) -> nn.Module:
    """Every convolution packed for oneDNN, a depthwise one with its activation."""

    def rule(module: nn.Module) -> nn.Module | None:
        if isinstance(module, Depthwise):
            return packed(module)
        return PackedConvolution(module) if isinstance(module, nn.Conv2d) else None

    return rewrite(network, rule)


def convolutions_pass(dtype: torch.dtype) -> bool:
    """Whether oneDNN has depthwise convolutions here, right ones, and quicker than torch's."""
    random = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(128, 128, 3, padding=1, groups=128)
    nn.init.normal_(layer.weight, generator=random)
    plain = Depthwise(layer.to(dtype), nn.GELU())
    x = torch.randn(1, 64, 64, 128, generator=random).to(dtype)
    return passes(lambda: packed(plain), plain, x)
