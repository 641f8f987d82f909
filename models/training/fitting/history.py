"""The history of a run: one row per epoch, as a table and as curves."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from models.registry import Task

QUALITY: dict[Task, str] = {"classify": "accuracy", "segment": "mean_iou"}  # a field of Row
METRICS, CURVES = "metrics.csv", "curves.png"
BLUE, ORANGE, GRAY = "#1f6fb4", "#d6602b", "#868e96"


class Row(NamedTuple):
    """One epoch; the quality is measured at its end."""

    epoch: int  # from 1
    loss: float  # the mean over the epoch's examples
    learning_rate: float  # of the last step
    accuracy: float  # of images or of pixels
    mean_iou: float
    images_per_s: float


def write_metrics(rows: Sequence[Row], folder: Path) -> None:
    """Write all rows to metrics.csv."""
    with (folder / METRICS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)


def draw_curves(rows: Sequence[Row], quality: str, title: str, folder: Path) -> bool:
    """Draw loss, learning rate and quality over the epochs to curves.png.

    Args:
        rows: at least one.
        quality: the field of a row to draw.
        title: of the figure.
        folder: the folder to write to.

    Returns:
        False if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return False
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    figure.suptitle(title)
    epochs = [row.epoch for row in rows]
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row.loss for row in rows], color=BLUE, marker=".")
    left.set(xlabel="epoch", ylabel="loss")
    rate = left.twinx()
    rate.plot(epochs, [row.learning_rate for row in rows], color=GRAY, linestyle=":")
    rate.set_ylabel("learning rate", color=GRAY)
    rate.set_ylim(bottom=0)
    values = [getattr(row, quality) for row in rows]
    right.plot(epochs, values, color=ORANGE, marker=".")
    right.set(xlabel="epoch", ylabel=f"held-out {quality.replace('_', ' ')}", ylim=(0, 1.02))
    right.annotate(f"{values[-1]:.3f}", (epochs[-1], values[-1]), ha="right", va="bottom")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#e9ecef")
        axes.set_axisbelow(True)
    figure.savefig(folder / CURVES, dpi=120)
    return True
