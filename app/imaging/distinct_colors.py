"""Makes any number of colors that are easy to tell apart."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVELS = 16  # of each channel, from which further colors are chosen
LIGHTNESS = (0.45, 0.92)  # of these colors, in Oklab; black and white are 0 and 1
MIN_CHROMA = 0.07  # the photograph has enough gray
TO_LMS = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
          (0.0883024619, 0.2817188376, 0.6299787005))  # fmt: skip
TO_LAB = ((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
          (0.0259040371, 0.7827717662, -0.8086757660))  # fmt: skip


def distinct_colors(count: int, first: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Colors that are easy to tell apart, also any number of them from the first on.

    Each color after the `first` ones is the one, of a grid of saturated colors of medium lightness,
    that is farthest in Oklab from its nearest predecessor (Glasbey and others, Colour displays for
    categorical images, 2007). When the grid is used up, the colors repeat.
    """
    steps = np.linspace(0, 255, LEVELS)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, *ab = oklab(grid).T
    vivid = (np.hypot(*ab) >= MIN_CHROMA) & (LIGHTNESS[0] <= lightness) & (lightness < LIGHTNESS[1])
    grid = grid[vivid]
    candidates = oklab(grid)
    chosen = [np.array(color, np.float64) for color in first]
    nearest = np.full(len(grid), np.inf)
    for index in range(min(count, len(first) + len(grid))):
        if index >= len(chosen):
            chosen.append(grid[nearest.argmax()])
        distances = np.linalg.norm(candidates - oklab(chosen[index]), axis=1)
        nearest = np.minimum(nearest, distances)
    return np.resize(np.array(chosen).astype(np.uint8), (count, 3))


def oklab(colors: NDArray[np.floating | np.integer]) -> NDArray[np.float64]:
    """sRGB colors (..., 3) from 0 to 255 in Oklab: lightness, green to red, blue to yellow."""
    values = np.asarray(colors, np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ np.array(TO_LMS).T) @ np.array(TO_LAB).T
