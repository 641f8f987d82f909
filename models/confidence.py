"""The probability of each pixel's class, without resizing the probabilities of every class.

The probabilities are a softmax over the classes at each position of the logit grid. A pixel takes
those of its own class from the four positions around it. It is computed for a few rows of pixels at
a time, with only their rows of the grid, so memory does not grow with the number of classes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Pixels and probabilities of a strip: fit a CPU's cache, justify a kernel launch.
_STRIP = {"cpu": (1 << 17, 1 << 20), "cuda": (1 << 22, 1 << 24)}
_BINS = 32  # sums of each class: the threads of a CUDA warp would wait for each other at one


class Confidence(NamedTuple):
    """How sure a segmenter is of its label map.

    Attributes:
        sums: over the pixels of each class, the sum of their probabilities, float64 (num_labels,).
        pixels: the probability of each pixel's class times 255, rounded to the nearest integer, a
            half to the even one, uint8 (H, W).
    """

    sums: Tensor
    pixels: Tensor


class _Positions(NamedTuple):
    """One dimension of the resize: where each output position lies in the grid."""

    low: Tensor  # (size,) grid position before it
    high: Tensor  # (size,) grid position after it
    weight: Tensor  # (size,) weight of `high`


@torch.no_grad()
def confidence(logits: Tensor, labels: Tensor) -> Confidence:
    """Return the confidence of a label map, on the same device.

    It equals a softmax over the classes, bilinear resizing (align_corners=False), and a gather at
    the label map, up to float32 rounding.

    Args:
        logits: (num_labels, h, w); half precision is computed in float32. Of a single class, the
            probability is 1.
        labels: the label map (H, W), see `models.label_map`.
    """
    num_labels, width = len(logits), labels.shape[1]
    sums = torch.zeros(num_labels * _BINS, dtype=torch.float64, device=logits.device)
    bins = torch.arange(width, device=logits.device) % _BINS
    pixels = torch.empty_like(labels, dtype=torch.uint8)
    for first, strip in probability_strips(logits, labels):
        rows = slice(first, first + len(strip))
        at = labels[rows].long() * _BINS + bins
        sums.scatter_add_(0, at.flatten(), strip.flatten().double())
        pixels[rows] = strip.mul_(255).round_()
    return Confidence(sums.view(num_labels, _BINS).sum(1), pixels)


def probability_strips(logits: Tensor, labels: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the probabilities of the pixels' classes, strip by strip from the top.

    Args:
        logits: (num_labels, h, w).
        labels: the label map (H, W).

    Yields:
        The first row of a strip, and the probabilities float32 (rows, W), which the caller may
        overwrite.
    """
    num_labels, h, w = logits.shape
    height, width = labels.shape
    left, right, across = _positions(w, width, logits.device)
    left, right = left * num_labels, right * num_labels
    down = _positions(h, height, logits.device)
    # the same on the host: slices of the grid must not wait for the device
    low, high = (each.tolist() for each in _positions(h, height, torch.device("cpu"))[:2])
    pixels, values = _STRIP[logits.device.type]
    rows = max(1, min(pixels // width, values * height // logits.numel()))
    for first in range(0, height, rows):
        strip = labels[first : first + rows]
        top, bottom = low[first], high[first + len(strip) - 1]
        grid = logits[:, top : bottom + 1].permute(1, 2, 0).float()  # (rows of the grid, w, labels)
        probabilities = grid.softmax(2).contiguous()
        upper, lower, weight = (each[first : first + rows, None] for each in down)
        north, south = (edge.sub(top) * (w * num_labels) for edge in (upper, lower))  # (rows, 1)
        west, east = strip + left, strip + right  # (rows, W) places of the class in row `top`
        above = probabilities.take(west + north).lerp_(probabilities.take(east + north), across)
        below = probabilities.take(west + south).lerp_(probabilities.take(east + south), across)
        yield first, above.lerp_(below, weight)


def _positions(length: int, size: int, device: torch.device) -> _Positions:
    """Map `size` output positions to `length` grid positions as torch's interpolate does.

    It multiplies and subtracts with a single rounding to float32, so the product is float64 here.
    Otherwise a probability at the end of a grid of 128 positions would differ by up to 5e-6.
    """
    scale = (torch.tensor(float(length)) / size).double()
    exact = (torch.arange(size, device=device) + 0.5).double() * scale - 0.5
    source = exact.float().clamp(min=0)
    low = source.long().clamp(max=length - 1)
    return _Positions(low, (low + 1).clamp(max=length - 1), source - low)
