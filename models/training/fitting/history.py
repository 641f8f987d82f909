"""The history of a run: one row per epoch, as a table and as curves."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from models.registry import Task

QUALITY: Mapping[Task, Mapping[str, str]] = MappingProxyType(  # names in reports: fields of Row
    {
        "classify": {"accuracy": "accuracy"},
        "segment": {"mean IoU": "mean_iou", "pixel accuracy": "accuracy"},  # the first one is drawn
    }
)
METRICS, CURVES = "metrics.csv", "curves.png"
BLUE, ORANGE, GRAY = "#1f6fb4", "#d6602b", "#868e96"


class Row(NamedTuple):
    """One epoch; the quality is measured at its end."""

    epoch: int  # from 1
    loss: float  # the mean over the epoch's examples
    learning_rate: float  # of the last step
    accuracy: float  # of images or of pixels
    mean_iou: float  # of a segmenter; not reported for a classifier
    images_per_s: float


def write_metrics(rows: Sequence[Row], task: Task, folder: Path) -> None:
    """Write all rows to metrics.csv, with the quality that fits the task."""
    quality = {name.replace(" ", "_").lower(): field for name, field in QUALITY[task].items()}
    columns = {name: name for name in ("epoch", "loss", "learning_rate")} | quality
    columns["images_per_s"] = "images_per_s"
    with (folder / METRICS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([getattr(row, field) for field in columns.values()] for row in rows)


def draw_curves(rows: Sequence[Row], task: Task, title: str, folder: Path) -> bool:
    """Draw loss, learning rate and quality over the epochs to curves.png.

    Args:
        rows: at least one.
        task: of the network; it says which quality is drawn.
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
    quality, field = next(iter(QUALITY[task].items()))
    values = [getattr(row, field) for row in rows]
    right.plot(epochs, values, color=ORANGE, marker=".")
    right.set(xlabel="epoch", ylabel=f"held-out {quality}", ylim=(0, 1.02))
    right.annotate(f"{values[-1]:.3f}", (epochs[-1], values[-1]), ha="right", va="bottom")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#e9ecef")
        axes.set_axisbelow(True)
    figure.savefig(folder / CURVES, dpi=120)
    return True
