"""Draws the confidence of a segmentation, and takes its mean for a class."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.imaging.masks import COMPRESSION
from app.imaging.png import encode_png

LEGEND = "pixel value = probability of the pixel's class * 255, rounded to the nearest integer"


def render(confidence: NDArray[np.uint8]) -> bytes:
    """Draw the confidence of each pixel as a PNG file of its size, in 8-bit gray.

    The text chunk `confidence` says what the values mean.

    Args:
        confidence: (H, W), from 0 to 255, which stands for the probability 1.
    """
    return encode_png(Image.fromarray(confidence), {"confidence": LEGEND}, **COMPRESSION)


def mean(sums: NDArray[np.float64], statistics: Mapping[str, Any]) -> float:
    """The mean confidence of one class, from 0 to 1.

    Args:
        sums: for each class, the sum over its pixels, (num_labels,).
        statistics: of the class, see `masks.statistics`.
    """
    return min(1.0, float(sums[statistics["index"]]) / statistics["area"])  # sums are rounded
