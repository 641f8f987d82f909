"""The mean attention distance of ViT (arXiv:2010.11929, figure 7): how far attention reaches."""

import torch
from torch import Tensor

from models.explain.recording import Layer
from models.layers.positions import Grid


def attention_distance(layer: Layer) -> Tensor:
    """Return the mean attention distance of each head, (B, heads), in pixels of the input.

    Prefix tokens have no position and are left out. The position of a key of a reduced grid is the
    center of its cell.
    """
    K = layer.prefix
    weights = layer.weights()[:, :, K:, K:]  # (B, heads, N, M)
    queries = centers(layer.grid, layer.cell)  # (N, 2)
    keys = centers(layer.key_grid, layer.cell * layer.ratio)  # (M, 2)
    return mean_distance(weights, queries.to(weights.device), keys.to(weights.device))


def mean_distance(weights: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """Return the mean over the queries of the attention-weighted mean distance to the keys.

    Args:
        weights: (B, heads, N, M); each row is normalized to a sum of 1.
        queries: positions (N, 2).
        keys: positions (M, 2).

    Returns:
        (B, heads), in the unit of the positions.
    """
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(queries, keys, compute_mode=exact)  # (N, M)
    total = weights.sum(-1).clamp_min(torch.finfo(weights.dtype).tiny)  # (B, heads, N)
    return ((weights * distances).sum(-1) / total).mean(-1)  # (B, heads)


def centers(grid: Grid, cell: int) -> Tensor:
    """Return the (row, column) of each cell's center, float (rows * columns, 2), in pixels."""
    rows, columns = (torch.arange(n) + 0.5 for n in grid)
    return cell * torch.cartesian_prod(rows, columns)
