"""Random augmentation of an image together with its label or label map."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageOps

from models.preprocessing import NEAREST, Size
from models.training.data.examples import Example


@dataclass(frozen=True)
class Augmentation:
    """The strength of each augmentation; the defaults change nothing.

    Brightness, contrast and saturation are multiplied by a random factor from 1 - jitter to
    1 + jitter, as in torchvision's ColorJitter.
    """

    flip: float = 0.0  # probability of mirroring left and right
    smallest_crop: float = 1.0  # fraction of the image area; the largest is 1
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __call__(self, example: Example, rng: Generator, size: Size, resample: int) -> Example:
        """Return the augmented example at `size`; a label map is resized by nearest pixels."""
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
    """Return (left, top, right, bottom) of a random crop.

    The crop's area is from `smallest` to 1 of the image's. Its aspect ratio differs from the
    image's by up to 4:3, within the image (arXiv:1409.4842, section 6).
    """
    if smallest >= 1:
        return 0, 0, width, height
    area = rng.uniform(smallest, 1)
    stretch = np.exp(rng.uniform(-1, 1) * np.log(4 / 3) / 2)
    across, down = min(area**0.5 * stretch, 1) * width, min(area**0.5 / stretch, 1) * height
    left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
    return left, top, left + across, top + down
