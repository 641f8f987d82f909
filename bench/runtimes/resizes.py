"""Owns the ways to resize logits and take the argmax that a benchmark sets side by side.

Knows nothing of clocks. Each takes logits (num_labels, h, w) and a size and gives (H, W).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.label_map import label_map

CLASSES = 4  # resized at once
ROWS = 32  # of the picture, at once


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Every class at the picture's size."""
    return interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]


def resized_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The plain way, which is transformers' post_process_semantic_segmentation."""
    return resized(logits, size).argmax(0)


def class_chunks(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """A few classes at a time, against the best so far."""
    best = torch.full(size, -torch.inf)
    won = torch.zeros(size, dtype=torch.uint8)
    for first in range(0, len(logits), CLASSES):
        value, index = resized(logits[first : first + CLASSES], size).max(0)
        better = value > best
        won = torch.where(better, (index + first).to(torch.uint8), won)
        best = torch.maximum(value, best)
    return won


def row_strips(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """A few rows at a time: their source rows stretched, then one class after the other mixed.

    Of the ways to do this the quickest here: resizing a strip of all classes and its argmax over
    the strided classes take two to three times as long.
    """
    won = torch.empty(size, dtype=torch.uint8)
    top, bottom, down = _positions(logits.shape[1], size[0])
    left, right, across = _positions(logits.shape[2], size[1])
    for rows in torch.arange(size[0]).split(ROWS):
        first, last = int(top[rows[0]]), int(bottom[rows[-1]])
        band = logits[:, first : last + 1]
        wide = band[..., left].lerp_(band[..., right], across)  # (num_labels, few, W)
        upper, lower, weight = top[rows] - first, bottom[rows] - first, down[rows, None]
        best = torch.full((len(rows), size[1]), -torch.inf)
        index = torch.zeros_like(best)
        for number, one in enumerate(wide):
            value = one[upper].lerp_(one[lower], weight)  # (ROWS, W)
            better = torch.gt(value, best, out=torch.empty_like(value))
            index.lerp_(torch.tensor(float(number)).expand_as(value), better)
            torch.maximum(value, best, out=best)
        won[rows] = index.to(torch.uint8)
    return won


def _positions(length: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two source positions of each of `size` output positions, and how far towards the second.

    As torch's interpolate lays them, corners not aligned.
    """
    source = (torch.arange(size) + 0.5) * (torch.tensor(float(length)) / size) - 0.5
    source = source.clamp(min=0)
    low = source.long().clamp(max=length - 1)
    return low, (low + 1).clamp(max=length - 1), source - low


WAYS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "plain": resized_argmax,
    f"class chunks of {CLASSES}": class_chunks,
    "row strips": row_strips,
    "ours": label_map,
}
