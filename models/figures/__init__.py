"""Figures of a network as PNG files: filters, position embeddings, attention, confusion.

matplotlib is an optional dependency; it is imported when a figure is drawn.
"""

from models.figures.canvas import FigureError, require_matplotlib
from models.figures.confusion import confusion_figure
from models.figures.distance import attention_distance_figure
from models.figures.filters import filters_figure
from models.figures.positions import positions_figure, sinusoids_figure

__all__ = [
    "FigureError",
    "attention_distance_figure",
    "confusion_figure",
    "filters_figure",
    "positions_figure",
    "require_matplotlib",
    "sinusoids_figure",
]
