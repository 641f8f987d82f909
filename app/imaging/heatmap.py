"""Draws relevance over the photograph, as colors of a heat map."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.imaging.blend import draw_over
from app.imaging.png import encode_png

OPACITY = 0.6
COMPRESSION = {"compress_level": 1}  # zlib's fastest: the client waits
WORK_PER_PIXEL = 26.0  # time of `render`, in decoded pixels of an ordinary JPEG
STOPS = (  # of matplotlib's inferno: lightness grows evenly from the first to the last
    (0, 0, 4), (33, 12, 74), (87, 16, 110), (138, 34, 106), (188, 55, 84),
    (228, 90, 49), (249, 142, 9), (249, 203, 53), (252, 255, 164),
)  # fmt: skip

Box = tuple[float, float, float, float]  # top, left, bottom, right in pixels of the photograph


def colours() -> NDArray[np.uint8]:
    """The 256 colors from the least to the most relevant, uint8 (256, 3), ever lighter."""
    at = np.linspace(0, len(STOPS) - 1, 256)
    channels = [np.interp(at, range(len(STOPS)), channel) for channel in zip(*STOPS, strict=True)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def render(
    rgb: Image.Image, grid: NDArray[np.float32], box: Box, texts: Mapping[str, str]
) -> bytes:
    """Draw relevance over a photograph, as a PNG file of the photograph's size.

    The photograph is drawn in gray, so color shows only relevance: black for the least relevant
    cell and for the pixels outside the box, which the network did not see; light yellow for the
    most relevant cell.

    Args:
        rgb: the photograph; the relevance is drawn into it.
        grid: the relevance of each cell, (rows, columns).
        box: the position of the grid in the photograph; it may extend beyond the photograph.
        texts: the text chunks of the PNG by keyword.
    """
    heat = upscale(quantize(grid), box, rgb.size)
    heat.putpalette(colours().tobytes())
    return encode_png(draw_over(rgb, partial(_blended, heat)), texts, **COMPRESSION)


def _blended(heat: Image.Image, strip: Image.Image, top: int) -> Image.Image:
    colors = heat.crop((0, top, strip.width, top + strip.height)).convert("RGB")
    return Image.blend(strip.convert("L").convert("RGB"), colors, OPACITY)


def quantize(grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The cells as uint8, from 0, the least relevant, to 255, the most; all 0 if all are equal."""
    above = grid - grid.min()
    return np.rint(255 * above / max(above.max(), np.finfo(np.float32).tiny)).astype(np.uint8)


def upscale(cells: NDArray[np.uint8], box: Box, size: tuple[int, int]) -> Image.Image:
    """The cells, which fill the box, as a smooth image (width, height); 0 outside the box."""
    top, left, bottom, right = box
    rows, columns = cells.shape
    x, y = columns / (right - left), rows / (bottom - top)  # cells per pixel
    affine = (x, 0, -left * x, 0, y, -top * y)
    picture = Image.fromarray(cells)
    return picture.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
