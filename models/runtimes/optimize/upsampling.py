"""The upsampling of SegFormer's levels as weighted sums of tokens, all levels in one pass.

Knows nothing of what is upsampled. `interpolate` writes each level out at full size, an image on
one core; a bag of embeddings sums the four tokens of every level and writes once, on all cores.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from models.layers.positions import Grid
from models.runtimes.optimize.decoder import Upsampling
from models.runtimes.optimize.rewriting import rewrite


class BaggedUpsampling(Upsampling):
    """`optimize.decoder.Upsampling`: a token is a bag of four tokens of every level."""

    def forward(self, levels: list[Tensor], grid: Grid) -> Tensor:
        grids = tuple((level.shape[1], level.shape[2]) for level in levels)
        first = levels[0]
        index, weights = bags(grid, grids, first.dtype, first.device)  # each (h w, 4 levels)
        tokens = torch.cat([level.flatten(1, 2) for level in levels], dim=1)  # (B, T, D)
        B, T, _ = tokens.shape
        if B > 1:
            index = (index + T * torch.arange(B, device=index.device)[:, None, None]).flatten(0, 1)
            weights = weights.repeat(B, 1)  # (B h w, 4 levels)
        total = embedding_bag(index, tokens.flatten(0, 1), per_sample_weights=weights, mode="sum")
        return total.view(B, *grid, -1)  # (B, h, w, D)


@lru_cache(maxsize=16)
def bags(
    grid: Grid, coarser: tuple[Grid, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which tokens of the coarser grids, one grid after the other, make up each of a grid.

    The indices and the weights, each (h w, 4 levels), as `interpolate` has them for "bilinear"
    without `align_corners`.
    """
    indices, weights, offset = [], [], 0
    for rows, columns in coarser:
        y, weight_y = taps(rows, grid[0])  # each (h, 2)
        x, weight_x = taps(columns, grid[1])  # each (w, 2)
        index = y[:, None, :, None] * columns + x[:, None]  # (h, w, 2, 2)
        indices.append((index + offset).flatten(0, 1).flatten(1))  # (h w, 4)
        weight = weight_y[:, None, :, None] * weight_x[:, None]  # (h, w, 2, 2)
        weights.append(weight.flatten(0, 1).flatten(1))  # (h w, 4)
        offset += rows * columns
    return torch.cat(indices, 1).to(device), torch.cat(weights, 1).to(device, dtype)


def taps(size: int, new_size: int) -> tuple[Tensor, Tensor]:
    """The two neighbours of each of new_size places among size, and their weights: (new_size, 2).

    In float32, as `interpolate` computes it.
    """
    place = (torch.arange(new_size) + 0.5) * (size / new_size) - 0.5
    place = place.clamp(min=0.0)
    low = place.long()
    fraction = place - low
    high = (low + 1).clamp(max=size - 1)
    return torch.stack([low, high], dim=1), torch.stack([1 - fraction, fraction], dim=1)


def upsample_by_bags(network: nn.Module) -> nn.Module:
    """The levels of SegFormer's decode head upsampled and summed in one pass."""

    def rule(module: nn.Module) -> nn.Module | None:
        return BaggedUpsampling() if type(module) is Upsampling else None

    return rewrite(network, rule)
