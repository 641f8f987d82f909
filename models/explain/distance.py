"""How far attention reaches: the mean attention distance of ViT (arXiv:2010.11929, figure 7).

Knows nothing of networks; a layer says what heeds what, and where that is.
"""

import torch
from torch import Tensor

from models.explain.recording import Layer
from models.layers.positions import Grid


def attention_distance(layer: Layer) -> Tensor:
    """The mean attention distance of each head, (B, heads), in pixels of the network's input.

    The prefix tokens, which are nowhere, neither ask nor answer. A key of a reduced grid is at the
    centre of the cell that it sums up.
    """
    K = layer.prefix
    weights = layer.weights()[:, :, K:, K:]  # (B, heads, N, M)
    queries = centres(layer.grid, layer.cell)  # (N, 2)
    keys = centres(layer.key_grid, layer.cell * layer.ratio)  # (M, 2)
    return mean_distance(weights, queries.to(weights.device), keys.to(weights.device))


def mean_distance(weights: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """The distance from query to key, weighted by attention: (B, heads), in the positions' unit.

    weights (B, heads, N, M), brought to rows that sum to 1; queries (N, 2) and keys (M, 2) are
    positions. For each query the mean over the keys, weighted; then the mean over the queries.
    """
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(queries, keys, compute_mode=exact)  # (N, M)
    total = weights.sum(-1).clamp_min(torch.finfo(weights.dtype).tiny)  # (B, heads, N)
    return ((weights * distances).sum(-1) / total).mean(-1)  # (B, heads)


def centres(grid: Grid, cell: int) -> Tensor:
    """The (row, column) of each cell's centre, float (rows * columns, 2), in pixels."""
    rows, columns = (torch.arange(n) + 0.5 for n in grid)
    return cell * torch.cartesian_prod(rows, columns)
