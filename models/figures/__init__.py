"""Figures of a network, as the texts on it draw them: filters, positions, attention distance.

Knows nothing of checkpoints or of where a figure goes: a network or numbers in, a PNG file out.
matplotlib, an extra of the installation, is loaded when a figure is drawn.
"""

from models.figures.canvas import FigureError
from models.figures.distance import attention_distance_figure
from models.figures.filters import filters_figure
from models.figures.positions import positions_figure, sinusoids_figure

__all__ = [
    "FigureError",
    "attention_distance_figure",
    "filters_figure",
    "positions_figure",
    "sinusoids_figure",
]
