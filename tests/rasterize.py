"""Fills polygons pixel by pixel: a pixel belongs to them if its center is inside."""

from collections.abc import Sequence

import numpy as np


def rasterized(
    rings: Sequence[Sequence[float]], shape: tuple[int, ...], *, even_odd: bool = True
) -> np.ndarray:
    """The pixels whose centers are inside an odd number of rings, or inside any ring."""
    crossings = np.zeros((len(rings), shape[0], shape[1] + 1), np.int64)
    for number, ring in enumerate(rings):
        points = np.reshape(ring, (-1, 2)).astype(float)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y0 != y1:
                rows = np.arange(min(y0, y1), max(y0, y1)).astype(int)
                x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                np.add.at(crossings[number], (rows, np.ceil(x - 0.5).astype(int)), 1)
    inside = np.cumsum(crossings, axis=2)[..., :-1] % 2
    return inside.sum(axis=0) % 2 == 1 if even_odd else inside.any(axis=0)
