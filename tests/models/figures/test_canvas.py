import sys
from io import BytesIO

import pytest
from PIL import Image

from models.figures.canvas import DOTS_PER_INCH, FigureError, blank, png


def test_a_figure_becomes_a_png_of_its_size():
    picture = Image.open(BytesIO(png(blank(3.0, 2.0, "nothing"))))
    assert picture.format == "PNG"
    assert picture.size == (3 * DOTS_PER_INCH, 2 * DOTS_PER_INCH)


def test_the_error_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(FigureError, match="make install EXTRAS=figures"):
        blank(3.0, 2.0, "nothing")


def test_a_title_may_have_any_characters():
    png(blank(3.0, 2.0, "$x_ 日本 $"))


def test_pyplot_is_not_imported():
    png(blank(1.0, 1.0, "nothing"))
    assert "matplotlib.pyplot" not in sys.modules
