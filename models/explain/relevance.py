"""Relevance of each image region to a prediction: attention traced from the head to the image.

A vector over the tokens is propagated back through the layers, so that no product of two attention
matrices is computed.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.explain.recording import Layer, Recording
from models.layers.positions import Grid
from models.registry import Network
from models.segformer import Segformer, SegformerClassifier
from models.vit import ViT

# The part that residual connections kept at its token, and the part that attention moved;
# each (B, K + N)
Flow = tuple[Tensor, Tensor]


def rollout(network: Network, recording: Recording) -> Tensor:
    """Attention rollout ("Quantifying Attention Flow in Transformers", arXiv:2005.00928).

    A layer maps v to (v + v A) / 2: one half passes through the residual connection, the other half
    follows the mean attention A of the heads. The result shows the origin of what the head reads,
    independent of the label.

    Returns:
        (B, rows, columns) of the finest stage; the sum for each image is 1.
    """

    def step(layer: Layer, kept: Tensor, moved: Tensor) -> Flow:
        weights = layer.weights().mean(1)  # (B, K + N, K + M)
        return kept / 2, (moved + back_through(layer, weights, kept + moved)) / 2

    kept, moved = propagate(network, recording, step)
    return normalized(kept + moved, recording)


def gradient_relevance(network: Network, recording: Recording) -> Tensor:
    """Relevance to the best label ("Generic Attention-model Explainability", arXiv:2103.15679).

    A layer maps v to v + v A, where A is the mean over the heads of the positive part of attention
    weights times their gradient: attention that increases the label's logit (equations 5 and 6).
    Only what attention moved counts: if the head reads the mean of all tokens, the rest is the same
    for each token. The recording must have gradients.

    Returns:
        (B, rows, columns) of the finest stage; the sum for each image is 1, or 0 if no attention
        increases the logit.
    """

    def step(layer: Layer, kept: Tensor, moved: Tensor) -> Flow:
        positive = (layer.weights() * layer.weights_gradient()).clamp_min_(0)
        return kept, moved + back_through(layer, positive.mean(1), kept + moved)

    _, moved = propagate(network, recording, step)
    return normalized(moved, recording)


def propagate(
    network: Network, recording: Recording, step: Callable[[Layer, Tensor, Tensor], Flow]
) -> Flow:
    """Propagate the parts that the head reads back through all layers.

    Between two stages, a coarse token's part is distributed evenly over the finer tokens that its
    stride spans.
    """
    stages = recording.stages
    kept, moved = torch.zeros(()), torch.zeros(())
    for index in reversed(range(len(stages))):
        stage, start = stages[index], read_by_head(network, recording, index)
        if index + 1 < len(stages):
            ratio, coarse = stages[index + 1].stride, stages[index + 1].grid
            kept, moved = (distribute(v, coarse, stage.grid, ratio) for v in (kept, moved))
        kept, moved = kept + start, moved + torch.zeros_like(start)
        for layer in reversed(stage.layers):
            kept, moved = step(layer, kept, moved)
    return kept, moved


def read_by_head(network: Network, recording: Recording, index: int) -> Tensor:
    """Return the part of the prediction that the head reads from each token of a stage, (B, K + N).

    A class token has 1, or one half if the distillation token also has a head, or if the head also
    reads the mean of the patches. Patches of a mean have equal parts, registers none. Each stage
    that a SegFormer's decoder reads has the same part. A segmenter's prediction is the mean over
    its pixels.
    """
    stage, B = recording.stages[index], len(recording.logits)
    tokens = stage.prefix + stage.grid[0] * stage.grid[1]
    start = torch.zeros(B, tokens, device=recording.logits.device)
    if isinstance(network, ViT) and network.config.pooling == "class":
        heads = 2 if network.config.distillation_head else 1
        start[:, :heads] = 1 / heads
        return start
    if isinstance(network, ViT):
        start[:, stage.prefix :] = 1 / (tokens - stage.prefix)
        if network.config.pooling == "class_mean":
            start[:, 0] = 1
            start /= 2
        return start
    if isinstance(network, SegformerClassifier):
        return start + (1 / tokens if index == len(recording.stages) - 1 else 0.0)
    stages = len(recording.stages) if isinstance(network, Segformer) else 1
    return start + 1 / (tokens * stages)


def back_through(layer: Layer, weights: Tensor, v: Tensor) -> Tensor:
    """Compute v A for one layer: v (B, K + N) and A (B, K + N, K + M) to (B, K + N)."""
    moved = (v[:, None] @ weights)[:, 0]  # (B, K + M)
    return moved if layer.ratio == 1 else distribute(moved, layer.key_grid, layer.grid, layer.ratio)


def distribute(v: Tensor, coarse: Grid, fine: Grid, ratio: int) -> Tensor:
    """Distribute each coarse cell's part evenly over its fine cells: (B, N) -> (B, N').

    Args:
        v: the parts of the coarse cells.
        coarse: rows and columns of the coarse grid.
        fine: rows and columns of the fine grid; cells beyond the coarse grid get 0.
        ratio: side of a coarse cell in fine cells; a cell at the edge may have fewer.
    """
    row, column = (torch.arange(n, device=v.device) // ratio for n in fine)
    inside = ((row[:, None] < coarse[0]) & (column < coarse[1])).flatten()  # (N',)
    cell = (row[:, None] * coarse[1] + column).flatten()[inside]  # coarse cell of each fine cell
    counts = torch.bincount(cell, minlength=v.shape[1]).clamp_min(1)  # (N,)
    parts = v.new_zeros(len(v), len(inside))
    parts[:, inside] = (v / counts)[:, cell]
    return parts


def normalized(v: Tensor, recording: Recording) -> Tensor:
    """Return the patches' parts of v (B, K + N), scaled to a sum of 1: (B, rows, columns)."""
    finest = recording.stages[0]
    patches = v[:, finest.prefix :]  # (B, N)
    total = patches.sum(1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)  # (B, 1)
    return (patches / total).unflatten(1, finest.grid)
