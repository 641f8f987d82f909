"""Creates empty figures and encodes them as PNG, without matplotlib's global state."""

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GRAY, GRID = "#1f6fb4", "#d6602b", "#868e96", "#e9ecef"
DOTS_PER_INCH = 120
NO_MATPLOTLIB = "figures need matplotlib: run make install EXTRAS=figures"


class FigureError(ValueError):
    """The figure cannot be drawn; the message says why."""


def require_matplotlib() -> None:
    """Raise FigureError if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401  # it is imported only where a figure is drawn
    except ImportError:
        raise FigureError(NO_MATPLOTLIB) from None


def blank(width: float, height: float, title: str) -> "Figure":
    """Create an empty figure; sizes are in inches. FigureError if matplotlib is not installed."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(title, parse_math=False)  # a name may have dollar signs
    return figure


def png(figure: "Figure") -> bytes:
    """Encode the figure as a PNG file."""
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a label in a script that the font lacks
        figure.savefig(file, format="png")
    return file.getvalue()
