"""The explanation of a batch: relevance and attention distance from one pass.

Knows nothing of how either is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from models.explain.distance import attention_distance
from models.explain.recording import Recording, record
from models.explain.relevance import gradient_relevance, rollout
from models.registry import Network

Method = Literal["gradient", "rollout"]
METHODS: tuple[Method, ...] = get_args(Method)  # the first is the default


@dataclass(frozen=True)
class Explanation:
    """Where the network looked at each image of a batch.

    Attributes:
        logits: what it said, (B, num_labels, ...).
        relevance: of each cell of the finest token grid, (B, rows, columns), from 0 on; the sum of
            an image is 1, or 0 where the method found nothing.
        cell: pixels a side of such a cell; the grid begins at the upper left corner of the input.
        attention_distance: of each attention, first to last, and each of its heads, (B, heads), in
            pixels of the input. Axial attention has two in a block: along the height, the width.
    """

    logits: Tensor
    relevance: Tensor
    cell: int
    attention_distance: tuple[Tensor, ...]


def explain(network: Network, pixels: Tensor, method: Method = "gradient") -> Explanation:
    """Explain what the network says of pixels (B, 3, H, W), normalised as it asks.

    The network runs in eval mode whatever its own is. It takes the time of about three passes with
    "gradient", of about two with "rollout", and the memory of the pass's activations and of one
    layer's weights. An encoder of one's own is followed through every
    `models.layers.attention.Attention` in it, and through nothing else. ValueError for an
    unknown method.
    """
    follow: dict[str, Callable[[Network, Recording], Tensor]] = {
        "gradient": gradient_relevance,
        "rollout": rollout,
    }
    if method not in follow:
        raise ValueError(f"the method is {' or '.join(METHODS)}, not {method!r}")
    recording = record(network, pixels, gradients=method == "gradient")
    with torch.no_grad():
        return Explanation(
            logits=recording.logits,
            relevance=follow[method](network, recording),
            cell=recording.stages[0].stride,
            attention_distance=tuple(attention_distance(layer) for layer in recording.layers),
        )


def attention_maps(network: Network, pixels: Tensor) -> tuple[Tensor, ...]:
    """The attention weights of each attention, first to last: (B, heads, K + N, K + M).

    K prefix tokens and N patches heed K + M keys; M is N, or the cells of a SegFormer's reduced
    grid. Axial attention has two in a block, 0 between the lines. Rows sum to 1.
    """
    return tuple(layer.weights() for layer in record(network, pixels).layers)


def attention_distances(network: Network, pixels: Tensor) -> tuple[Tensor, ...]:
    """The mean attention distance of each attention and head, (B, heads), in pixels of the input.

    As in ViT (arXiv:2010.11929, figure 7); the paper averages it over 128 images.
    """
    return tuple(attention_distance(layer) for layer in record(network, pixels).layers)
