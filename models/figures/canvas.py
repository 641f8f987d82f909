"""A blank figure, and its way into a PNG file.

Does not know what is drawn. Nothing of matplotlib's global state is touched.
"""

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, GRID = "#1f6fb4", "#d6602b", "#868e96", "#e9ecef"
DOTS_PER_INCH = 120


class FigureError(ValueError):
    """A figure that cannot be drawn, with the reason."""


def blank(width: float, height: float, title: str) -> "Figure":
    """An empty figure, sizes in inches. FigureError when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise FigureError('figures need matplotlib: pip install "patchserve[figures]"') from None
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(title)
    return figure


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
