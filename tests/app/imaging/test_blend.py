"""Strips of a photograph: all of it is drawn, in bounded memory, whatever its shape."""

import numpy as np
import pytest
from PIL import Image, ImageChops

from app.imaging.blend import STRIP_PIXELS, draw_over


@pytest.mark.parametrize("size", [(100_000, 50), (50, 100_000), (1, 1), (STRIP_PIXELS + 1, 2)])
def test_a_photograph_of_any_shape_is_drawn_in_strips_of_bounded_size(size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    photo, sizes = Image.fromarray(pixels), []

    def inverted(strip: Image.Image, top: int) -> Image.Image:
        sizes.append(strip.size)
        assert np.array_equal(np.asarray(strip), pixels[top : top + strip.height])
        return ImageChops.invert(strip)

    assert draw_over(photo, inverted) is photo
    assert np.array_equal(np.asarray(photo), 255 - pixels)
    assert all(width * height <= STRIP_PIXELS or height == 1 for width, height in sizes)
