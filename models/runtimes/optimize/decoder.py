"""SegFormer's decode head, folded into one matrix per stage, and its upsampling in one pass.

Projection, fusion and BatchNorm form one affine map of the stages' features. Bilinear upsampling
has weights that sum to 1, so it commutes with an affine map: the map is applied first, to 4 to 1024
times fewer tokens, and nothing is concatenated.
"""

from functools import lru_cache, reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, interpolate

from models.layers.positions import Grid
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.patches import batch_norm_affine
from models.runtimes.optimize.rewriting import rewrite
from models.segformer import DecodeHead


class LinearAddReLU(Dense):
    """relu(x W^T + b + total) of tokens x (..., C), total (..., D); may overwrite the total."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return torch.relu(super().forward(x, residual))


class Upsampling(nn.Module):
    """The sum of token grids (B, h_i, w_i, D), upsampled bilinearly to one grid: (B, h, w, D)."""

    def forward(self, levels: list[Tensor], grid: Grid) -> Tensor:
        images = (
            interpolate(level.permute(0, 3, 1, 2), grid, mode="bilinear", align_corners=False)
            for level in levels
        )
        return reduce(torch.add, images).permute(0, 2, 3, 1)  # (B, h, w, D)


class EmbeddingBagUpsampling(Upsampling):
    """`Upsampling` by one `embedding_bag`: a weighted sum of four tokens of each level."""

    def forward(self, levels: list[Tensor], grid: Grid) -> Tensor:
        grids = tuple((level.shape[1], level.shape[2]) for level in levels)
        dtype, device = levels[0].dtype, levels[0].device
        index, weights = interpolation_table(grid, grids, dtype, device)  # each (h w, 4 levels)
        tokens = torch.cat([level.flatten(1, 2) for level in levels], dim=1)  # (B, T, D)
        B, T, _ = tokens.shape
        if B > 1:
            index = (index + T * torch.arange(B, device=device)[:, None, None]).flatten(0, 1)
            weights = weights.repeat(B, 1)  # (B h w, 4 levels)
        total = embedding_bag(index, tokens.flatten(0, 1), per_sample_weights=weights, mode="sum")
        return total.view(B, *grid, -1)  # (B, h, w, D)


class FoldedDecodeHead(nn.Module):
    """`models.segformer.DecodeHead` with one matrix per stage, folded in float64 and rounded once.

    Maps the stages' features, each (B, C_i, H_i, W_i), to logits (B, num_labels, H_1, W_1).
    """

    def __init__(self, plain: DecodeHead) -> None:
        super().__init__()
        scale, bias = batch_norm_affine(plain.norm)  # each (D,)
        fuse = plain.fuse.weight.detach().double().flatten(1) * scale[:, None]  # (D, stages D)
        slices = fuse.chunk(len(plain.projections), dim=1)[::-1]  # stored coarsest stage first
        weights = []
        for layer, part in zip(cast(list[nn.Linear], plain.projections), slices, strict=True):
            weights.append(part @ layer.weight.detach().double())  # (D, C_i)
            bias = bias + part @ layer.bias.detach().double()  # (D,)
        dtype = plain.fuse.weight.dtype
        finest, *coarser = (weight.to(dtype) for weight in weights)
        self.finest = LinearAddReLU(finest, bias.to(dtype))
        self.coarser = nn.ModuleList(map(Dense, coarser))
        self.upsampling = Upsampling()
        self.head = Dense(plain.head.weight.flatten(1), plain.head.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        finest, *coarser = (x.permute(0, 2, 3, 1) for x in features)  # (B, H_i, W_i, C_i)
        levels = [layer(x) for layer, x in zip(self.coarser, coarser, strict=True)]  # D channels
        total = self.upsampling(levels, finest.shape[1:3]) if levels else None
        x = self.finest(finest, total)  # (B, H_1, W_1, D)
        return self.head(x).permute(0, 3, 1, 2)  # (B, num_labels, H_1, W_1)


@lru_cache(maxsize=16)
def interpolation_table(
    grid: Grid, coarser: tuple[Grid, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return indices and weights for the bilinear upsampling of several grids to one grid.

    The tokens of the coarser grids are numbered one grid after the other. The weights equal
    the weights of `interpolate` with mode "bilinear" and align_corners=False.

    Returns:
        Indices and weights, each (h w, 4 levels).
    """
    indices, weights, offset = [], [], 0
    for rows, columns in coarser:
        y, weight_y = neighbors(rows, grid[0])  # each (h, 2)
        x, weight_x = neighbors(columns, grid[1])  # each (w, 2)
        index = y[:, None, :, None] * columns + x[:, None]  # (h, w, 2, 2)
        indices.append((index + offset).flatten(0, 1).flatten(1))  # (h w, 4)
        weight = weight_y[:, None, :, None] * weight_x[:, None]  # (h, w, 2, 2)
        weights.append(weight.flatten(0, 1).flatten(1))  # (h w, 4)
        offset += rows * columns
    return torch.cat(indices, 1).to(device), torch.cat(weights, 1).to(device, dtype)


def neighbors(size: int, new_size: int) -> tuple[Tensor, Tensor]:
    """Return the two neighbors of each of new_size positions, and their weights: (new_size, 2).

    Computed in float32, like `interpolate`.
    """
    source = (torch.arange(new_size) + 0.5) * (size / new_size) - 0.5
    source = source.clamp(min=0.0)
    low = source.long()
    fraction = source - low
    high = (low + 1).clamp(max=size - 1)
    return torch.stack([low, high], dim=1), torch.stack([1 - fraction, fraction], dim=1)


def fold_decode_head(network: nn.Module) -> nn.Module:
    """Fold SegFormer's decode head into one matrix per stage, applied before the upsampling."""

    def rule(module: nn.Module) -> nn.Module | None:
        return FoldedDecodeHead(module) if isinstance(module, DecodeHead) else None

    return rewrite(network, rule)


def upsample_by_embedding_bag(network: nn.Module) -> nn.Module:
    """Upsample and sum the levels of SegFormer's decode head in one pass."""

    def rule(module: nn.Module) -> nn.Module | None:
        return EmbeddingBagUpsampling() if type(module) is Upsampling else None

    return rewrite(network, rule)
