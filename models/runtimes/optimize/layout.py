"""Convolutions in channels-last layout, which is that of the token grids between them.

Knows nothing of networks.
"""

import torch
from torch import Tensor, nn

from models.runtimes.optimize.rewriting import copied, rewrite


def channels_last(network: nn.Module) -> nn.Module:
    """The weights of every convolution in channels-last layout, so that it copies no token grid."""

    def convert(tensor: Tensor) -> Tensor:
        last = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
        return tensor.detach().contiguous(memory_format=last)

    def rule(module: nn.Module) -> nn.Module | None:
        return copied(module, convert) if isinstance(module, nn.Conv2d) else None

    return rewrite(network, rule)
