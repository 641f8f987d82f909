"""Draws a confusion matrix: how often images or pixels of each label are predicted as which."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.figures.canvas import blank, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COUNTS = 20  # labels; in larger matrices the numbers would not be readable
MOST_NAMES = 80
LONGEST = 24  # characters of a name
DARK = 0.55  # part of a row above which its number is white


def confusion_figure(labels: tuple[str, ...], counts: NDArray[np.integer], title: str) -> bytes:
    """Draw counts (true label, predicted label), shaded by their part of the true label.

    Args:
        labels: by index, at least one.
        counts: of images or pixels, (labels, labels).
        title: of the figure.
    """
    count = len(labels)
    side = min(3.0 + 0.42 * count, 16.0)  # inches
    figure = blank(side + 0.8, side, title)
    axes = figure.subplots()
    parts = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(parts, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="part of the true label", shrink=0.8)
    axes.set(xlabel="predicted label", ylabel="true label")
    if count <= MOST_NAMES:
        names = [shortened(label) for label in labels]
        axes.set_xticks(range(count), names, rotation=90, parse_math=False)
        axes.set_yticks(range(count), names, parse_math=False)
    if count <= MOST_COUNTS:
        write_counts(axes, counts, parts)
    return png(figure)


def write_counts(axes: "Axes", counts: NDArray[np.integer], parts: NDArray[np.floating]) -> None:
    """Write the number into each cell that is not 0; millions of pixels in short."""
    for (row, column), number in np.ndenumerate(counts):
        if number:
            text = f"{number:,}" if number < 10_000 else f"{number:.1e}"
            color = "white" if parts[row, column] > DARK else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7)


def shortened(label: str) -> str:
    """Return a name that fits beside the matrix."""
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"
