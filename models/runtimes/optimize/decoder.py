"""SegFormer's decode head, folded: one matrix a stage, at the stage's own resolution.

Knows nothing of the encoder. Projection, fusion and BatchNorm are one affine map of the stages'
features, and a bilinear upsampling, whose weights sum to 1, commutes with such a map: so the map
goes first, where there are 4 to 1024 times fewer tokens, and nothing is concatenated.
"""

from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

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
