"""The explanation of a batch: relevance and attention distances from one forward pass."""

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
    """The explanation of a batch's predictions.

    Attributes:
        logits: the prediction, (B, num_labels, ...).
        relevance: of each cell of the finest token grid, (B, rows, columns), not negative; the sum
            for an image is 1, or 0 if the method found nothing.
        cell: side of a cell in pixels; the grid starts at the upper left corner of the input.
        attention_distance: one tensor per attention, first to last: the mean attention distance of
            each head, (B, heads), in pixels of the input. A block with axial attention has two,
            along the height and along the width.
    """

    logits: Tensor
    relevance: Tensor
    cell: int
    attention_distance: tuple[Tensor, ...]


def explain(network: Network, pixels: Tensor, method: Method = "gradient") -> Explanation:
    """Explain the predictions for a batch.

    The network runs in eval mode, whatever its current mode is. This takes about the time of three
    forward passes for "gradient" and two for "rollout", and the memory of the pass's activations
    and of one layer's attention weights. In a custom encoder only attention that is a
    `models.layers.attention.Attention` is followed.

    Args:
        network: a plain network.
        pixels: normalized pixels (B, 3, H, W).
        method: "gradient" (`gradient_relevance`) or "rollout".

    Raises:
        ValueError: the method is unknown.
    """
    relevance_by: dict[str, Callable[[Network, Recording], Tensor]] = {
        "gradient": gradient_relevance,
        "rollout": rollout,
    }
    if method not in relevance_by:
        raise ValueError(f"the method is {' or '.join(METHODS)}, not {method!r}")
    recording = record(network, pixels, gradients=method == "gradient")
    with torch.no_grad():
        return Explanation(
            logits=recording.logits,
            relevance=relevance_by[method](network, recording),
            cell=recording.stages[0].stride,
            attention_distance=tuple(attention_distance(layer) for layer in recording.layers),
        )


def attention_maps(network: Network, pixels: Tensor) -> tuple[Tensor, ...]:
    """Return the weights of each attention, first to last: (B, heads, K + N, K + M).

    K prefix tokens and N patch tokens attend to K + M keys. M is N, or the number of cells in a
    SegFormer's reduced grid. A block with axial attention has two maps, 0 between different lines.
    Rows sum to 1.
    """
    return tuple(layer.weights() for layer in record(network, pixels).layers)


def attention_distances(network: Network, pixels: Tensor) -> tuple[Tensor, ...]:
    """Return the mean distance of each attention's heads, (B, heads), in pixels of the input.

    As in ViT (arXiv:2010.11929, figure 7); the paper averages it over 128 images.
    """
    return tuple(attention_distance(layer) for layer in record(network, pixels).layers)
