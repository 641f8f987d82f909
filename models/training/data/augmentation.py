"""Augmentation: a picture and its truth changed at random, in ways that leave the truth true.

Does not know files, batches or networks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageOps

from models.preprocessing import NEAREST, Size
from models.training.data.examples import Example


@dataclass(frozen=True)
class Augmentation:
    """How much of what; the defaults change nothing.

    The jitters multiply by a number from 1 - jitter to 1 + jitter, as torchvision's ColorJitter.
    """

    flip: float = 0.0  # chance to be mirrored, left to right
    smallest_crop: float = 1.0  # of the area: a crop has from this to all of it
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __call__(self, example: Example, rng: Generator, size: Size, resample: int) -> Example:
        """A random crop of the example, brought to the size; a label map by its nearest pixels."""
        image, truth = example
        box = crop(rng, image.height, image.width, self.smallest_crop)
        image = image.resize((size[1], size[0]), Image.Resampling(resample), box)
        if not isinstance(truth, int):
            truth = np.asarray(
                Image.fromarray(truth).resize((size[1], size[0]), Image.Resampling(NEAREST), box)
            )
        if rng.random() < self.flip:
            image = ImageOps.mirror(image)
            truth = truth if isinstance(truth, int) else truth[:, ::-1]
        for jitter, enhance in (
            (self.brightness, ImageEnhance.Brightness),
            (self.contrast, ImageEnhance.Contrast),
            (self.saturation, ImageEnhance.Color),
        ):
            if jitter:
                image = enhance(image).enhance(rng.uniform(1 - jitter, 1 + jitter))
        return Example(image, truth)


def crop(
    rng: Generator, height: int, width: int, smallest: float
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a random part of a picture, of its own aspect ratio or nearly.

    The part's area is from `smallest` to all of the picture's; an edge is stretched against the
    other by up to 4:3, as far as the picture reaches (arXiv:1409.4842, section 6).
    """
    if smallest >= 1:
        return 0, 0, width, height
    area = rng.uniform(smallest, 1)
    stretch = np.exp(rng.uniform(-1, 1) * np.log(4 / 3) / 2)
    across, down = min(area**0.5 * stretch, 1) * width, min(area**0.5 / stretch, 1) * height
    left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
    return left, top, left + across, top + down
