"""Draws the attention distance by depth: figure 7, right, of ViT (arXiv:2010.11929)."""

from collections.abc import Sequence

import numpy as np

from models.figures.canvas import BLUE, GRAY, GRID, ORANGE, blank, png

SAMPLES = 32  # points per side, to estimate the mean distance of two positions of an image


def attention_distance_figure(
    distances: Sequence[Sequence[Sequence[float]]], size: tuple[int, int], name: str
) -> bytes:
    """Draw each head's distance by layer, and the distance of uniform attention as a reference.

    Args:
        distances: by image, attention and head, in pixels of the input.
        size: height and width of the input, in pixels.
        name: the network's name, for the title.
    """
    images = len(distances)
    layers = [np.mean(heads, axis=0) for heads in zip(*distances, strict=True)]  # each (heads,)
    figure = blank(7.2, 4.2, f"{name}: attention distance of each head, mean of {images} images")
    axes = figure.subplots()
    uniform = uniform_distance(size)
    axes.axhline(uniform, color=GRAY, linestyle=":", label=f"uniform attention: {uniform:.0f} px")
    for depth, heads in enumerate(layers, 1):
        label = "one head" if depth == 1 else None
        axes.plot([depth] * len(heads), heads, "o", color=BLUE, alpha=0.7, label=label)
    means = [heads.mean() for heads in layers]
    axes.plot(range(1, len(means) + 1), means, color=ORANGE, label="mean of the heads")
    axes.set(
        xlabel="attention layer, first to last",
        ylabel=f"mean attention distance (px of {size[1]} x {size[0]})",
    )
    axes.locator_params(axis="x", integer=True)
    axes.set_ylim(bottom=0)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.legend()
    return png(figure)


def uniform_distance(size: tuple[int, int]) -> float:
    """Return the mean distance of two positions of an image (height, width), in its unit."""
    rows, columns = ((np.arange(SAMPLES) + 0.5) * side / SAMPLES for side in size)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return float(np.hypot(y.ravel()[:, None] - y.ravel(), x.ravel()[:, None] - x.ravel()).mean())
