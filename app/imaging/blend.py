"""Draws colors over a photograph, in place and in strips, because a copy may take 200 MB."""

from collections.abc import Callable

from PIL import Image

STRIP_PIXELS = 2**20  # of a strip, unless a single row has more


def draw_over(
    photo: Image.Image, blended: Callable[[Image.Image, int], Image.Image]
) -> Image.Image:
    """Replace each strip of a photograph, and return the same photograph.

    Args:
        photo: RGB; it is changed.
        blended: makes the new strip, RGB of the same size, from the old one and its first row.
    """
    rows = max(STRIP_PIXELS // photo.width, 1)
    for top in range(0, photo.height, rows):
        box = (0, top, photo.width, min(top + rows, photo.height))
        photo.paste(blended(photo.crop(box), top), box)
    return photo
