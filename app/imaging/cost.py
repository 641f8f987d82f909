"""Estimates what decoding an image costs, from its header."""

from contextlib import suppress
from io import BytesIO
from typing import NamedTuple

from PIL import Image


class DecodeCost(NamedTuple):
    """What decoding an image costs.

    Attributes:
        pixels: number of pixels that the decoder holds in memory.
        work: in pixels of an ordinary JPEG.
    """

    pixels: int
    work: float


def decode_cost(data: bytes) -> DecodeCost:
    """The cost of decoding an image file; of an invalid file, next to nothing."""
    with suppress(Exception), Image.open(BytesIO(data)) as image:
        return DecodeCost(image.width * image.height, float(image.width * image.height))
    return DecodeCost(1, 1.0)
