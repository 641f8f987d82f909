"""Methods to resize logits (num_labels, h, w) and take the argmax (H, W)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.confidence import confidence
from models.label_map import label_map

CLASSES = 4  # classes resized at once
ROWS = 32  # rows of the output computed at once


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize every class to the output size."""
    return interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]


def resized_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize, then argmax: post_process_semantic_segmentation of transformers."""
    return resized(logits, size).argmax(0)


def class_chunks(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a few classes at a time and compare them with the best so far."""
    best = torch.full(size, -torch.inf)
    labels = torch.zeros(size, dtype=torch.uint8)
    for first in range(0, len(logits), CLASSES):
        value, index = resized(logits[first : first + CLASSES], size).max(0)
        better = value > best
        labels = torch.where(better, (index + first).to(torch.uint8), labels)
        best = torch.maximum(value, best)
    return labels


def row_strips(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute a few output rows at a time: stretch their source rows, then blend class by class.

    This is the fastest such method here: to resize a strip of all classes and to take the argmax
    over the strided classes takes two to three times as long.
    """
    labels = torch.empty(size, dtype=torch.uint8)
    top, bottom, down = _positions(logits.shape[1], size[0])
    left, right, across = _positions(logits.shape[2], size[1])
    for rows in torch.arange(size[0]).split(ROWS):
        first, last = int(top[rows[0]]), int(bottom[rows[-1]])
        band = logits[:, first : last + 1]
        stretched = band[..., left].lerp_(band[..., right], across)  # (num_labels, source rows, W)
        upper, lower, weight = top[rows] - first, bottom[rows] - first, down[rows, None]
        best = torch.full((len(rows), size[1]), -torch.inf)
        index = torch.zeros_like(best)
        for number, plane in enumerate(stretched):
            value = plane[upper].lerp_(plane[lower], weight)  # (ROWS, W)
            better = torch.gt(value, best, out=torch.empty_like(value))
            index.lerp_(torch.tensor(float(number)).expand_as(value), better)
            torch.maximum(value, best, out=best)
        labels[rows] = index.to(torch.uint8)
    return labels


def _positions(length: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two source positions of each output position, and the weight of the second one.

    Like torch's interpolate with align_corners=False.
    """
    source = (torch.arange(size) + 0.5) * (torch.tensor(float(length)) / size) - 0.5
    source = source.clamp(min=0)
    low = source.long().clamp(max=length - 1)
    return low, (low + 1).clamp(max=length - 1), source - low


def with_confidence(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute the label map, and the probability of each pixel's class as `/segment` needs it."""
    labels = label_map(logits, size)
    confidence(logits, labels)
    return labels


METHODS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "plain": resized_argmax,
    f"class chunks of {CLASSES}": class_chunks,
    "row strips": row_strips,
    "ours": label_map,
    "with confidence": with_confidence,
}
