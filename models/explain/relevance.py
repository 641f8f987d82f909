"""How much of an answer comes from where: attention followed back from the head to the image.

Knows nothing of photographs. A vector over the tokens goes back through the layers, so that no
product of two attention matrices is ever made.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.explain.recording import Layer, Recording
from models.layers.positions import Grid
from models.registry import Network
from models.segformer import Segformer, SegformerClassifier
from models.vit import ViT

Vectors = tuple[Tensor, Tensor]  # what stayed with the tokens the head reads, what attention moved


def rollout(network: Network, recording: Recording) -> Tensor:
    """Attention rollout ("Quantifying Attention Flow in Transformers", arXiv:2005.00928).

    A layer makes v of (v + v A) / 2: one half passes by its residual connection, the other goes
    where the mean A of its heads sends it. Says where what the head reads comes from, whichever
    label it speaks for. Returns (B, rows, columns) of the finest stage, the sum of each image 1.
    """

    def step(layer: Layer, own: Tensor, moved: Tensor) -> Vectors:
        weights = layer.weights().mean(1)  # (B, K + N, K + M)
        return own / 2, (moved + heed(layer, weights, own + moved)) / 2

    own, moved = follow(network, recording, step)
    return shares(own + moved, recording)


def gradient_relevance(network: Network, recording: Recording) -> Tensor:
    """Relevance to the best label ("Generic Attention-model Explainability", arXiv:2103.15679).

    A layer adds v A to v, where A is the mean over the heads of the positive part of weights times
    their gradient: what heeds, and speaks for the label by heeding (equations 5 and 6). Only what
    attention moved counts; where the head reads the mean of all tokens, the rest is the same for
    each. Returns (B, rows, columns) of the finest stage, the sum of each image 1, or all 0 where
    nothing speaks for the label. The recording must have gradients.
    """

    def step(layer: Layer, own: Tensor, moved: Tensor) -> Vectors:
        speaking = (layer.weights() * layer.weights_gradient()).clamp_min_(0)
        return own, moved + heed(layer, speaking.mean(1), own + moved)

    _, moved = follow(network, recording, step)
    return shares(moved, recording)


def follow(
    network: Network, recording: Recording, step: Callable[[Layer, Tensor, Tensor], Vectors]
) -> Vectors:
    """Go back through all layers, each by a step, from what the head reads: each (B, K + N).

    From a stage to the finer one before it, a token's part spreads evenly over those that its
    stride spans.
    """
    stages = recording.stages
    own, moved = torch.zeros(()), torch.zeros(())
    for index in reversed(range(len(stages))):
        stage, start = stages[index], read_by_head(network, recording, index)
        if index + 1 < len(stages):
            finer, coarse = stages[index + 1].stride, stages[index + 1].grid
            own, moved = (spread(v, coarse, stage.grid, finer) for v in (own, moved))
        own, moved = own + start, moved + torch.zeros_like(start)
        for layer in reversed(stage.layers):
            own, moved = step(layer, own, moved)
    return own, moved


def read_by_head(network: Network, recording: Recording, index: int) -> Tensor:
    """The part of the answer that the head reads from each token of a stage, (B, K + N).

    A class token's is 1, or shared with the distillation token where both have a head; the mean of
    the tokens is shared by all. A SegFormer's decoder reads its stages, here one as much as the
    other; a segmenter's answer is the mean over its pixels.
    """
    stage, B = recording.stages[index], len(recording.logits)
    tokens = stage.prefix + stage.grid[0] * stage.grid[1]
    start = torch.zeros(B, tokens, device=recording.logits.device)
    if isinstance(network, ViT) and network.config.pooling == "class":
        heads = 2 if network.config.distillation_head else 1
        start[:, :heads] = 1 / heads
        return start
    if isinstance(network, SegformerClassifier):
        return start + (1 / tokens if index == len(recording.stages) - 1 else 0.0)
    stages = len(recording.stages) if isinstance(network, Segformer) else 1
    return start + 1 / (tokens * stages)


def heed(layer: Layer, weights: Tensor, v: Tensor) -> Tensor:
    """v A of one layer: v (B, K + N) and A (B, K + N, K + M) to (B, K + N)."""
    moved = (v[:, None] @ weights)[:, 0]  # (B, K + M)
    return moved if layer.ratio == 1 else spread(moved, layer.key_grid, layer.grid, layer.ratio)


def spread(v: Tensor, coarse: Grid, fine: Grid, ratio: int) -> Tensor:
    """Share each coarse cell's part evenly among the fine ones in it: (B, N) to (B, N').

    ratio: fine cells a side of a coarse one. A coarse cell at the edge may have fewer; fine cells
    beyond the coarse grid get nothing.
    """
    row, column = (torch.arange(n, device=v.device) // ratio for n in fine)
    inside = ((row[:, None] < coarse[0]) & (column < coarse[1])).flatten()  # (N',)
    cell = (row[:, None] * coarse[1] + column).flatten()[inside]  # the coarse cell of each
    counts = torch.bincount(cell, minlength=v.shape[1]).clamp_min(1)  # (N,)
    parts = v.new_zeros(len(v), len(inside))
    parts[:, inside] = (v / counts)[:, cell]
    return parts


def shares(v: Tensor, recording: Recording) -> Tensor:
    """The patches' parts of v (B, K + N), brought to a sum of 1: (B, rows, columns)."""
    finest = recording.stages[0]
    patches = v[:, finest.prefix :]  # (B, N)
    total = patches.sum(1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)  # (B, 1)
    return (patches / total).unflatten(1, finest.grid)
