"""SegFormer's decode head, folded: one matrix a stage, at the stage's own resolution.

Knows nothing of the encoder. Projection, fusion and BatchNorm are one affine map of the stages'
features, and a bilinear upsampling, whose weights sum to 1, commutes with such a map: so the map
goes first, where there are 4 to 1024 times fewer tokens, and nothing is concatenated.
"""

from functools import lru_cache, reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, interpolate

from models.layers.positions import Grid
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.patches import affine
from models.runtimes.optimize.rewriting import rewrite
from models.segformer import DecodeHead


class RectifiedSum(Dense):
    """relu(x W^T + b + total) of tokens x (..., C), total (..., D); may overwrite the total."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return torch.relu(super().forward(x, residual))


class Upsampling(nn.Module):
    """The sum of token grids (B, h_i, w_i, D), each bilinearly on one grid: (B, h, w, D)."""

    def forward(self, levels: list[Tensor], grid: Grid) -> Tensor:
        images = (
            interpolate(level.permute(0, 3, 1, 2), grid, mode="bilinear", align_corners=False)
            for level in levels
        )
        return reduce(torch.add, images).permute(0, 2, 3, 1)  # (B, h, w, D)


class FoldedDecodeHead(nn.Module):
    """`models.segformer.DecodeHead` with one matrix a stage; float64 folds, the weights round once.

    The stages' features, each (B, C_i, H_i, W_i), to logits (B, num_labels, H_1, W_1).
    """

    def __init__(self, plain: DecodeHead) -> None:
        super().__init__()
        scale, bias = affine(plain.norm)  # each (D,)
        fuse = plain.fuse.weight.detach().double().flatten(1) * scale[:, None]  # (D, stages D)
        slices = fuse.chunk(len(plain.projections), dim=1)[::-1]  # the deepest stage comes first
        weights = []
        for layer, part in zip(cast(list[nn.Linear], plain.projections), slices, strict=True):
            weights.append(part @ layer.weight.detach().double())  # (D, C_i)
            bias = bias + part @ layer.bias.detach().double()  # (D,)
        dtype = plain.fuse.weight.dtype
        finest, *coarser = (weight.to(dtype) for weight in weights)
        self.finest = RectifiedSum(finest, bias.to(dtype))
        self.coarser = nn.ModuleList(map(Dense, coarser))
        self.upsampling = Upsampling()
        self.head = Dense(plain.head.weight.flatten(1), plain.head.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        finest, *coarser = (x.permute(0, 2, 3, 1) for x in features)  # (B, H_i, W_i, C_i)
        levels = [layer(x) for layer, x in zip(self.coarser, coarser, strict=True)]  # D channels
        total = self.upsampling(levels, finest.shape[1:3]) if levels else None
        x = self.finest(finest, total)  # (B, H_1, W_1, D)
        return self.head(x).permute(0, 3, 1, 2)  # (B, num_labels, H_1, W_1)


def fold_decode_head(network: nn.Module) -> nn.Module:
    """SegFormer's decode head as one matrix a stage, before the upsampling."""

    def rule(module: nn.Module) -> nn.Module | None:
        return FoldedDecodeHead(module) if isinstance(module, DecodeHead) else None

    return rewrite(network, rule)


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
