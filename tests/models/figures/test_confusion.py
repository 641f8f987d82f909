from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from models.figures.canvas import DOTS_PER_INCH
from models.figures.confusion import confusion_figure, shortened, write_counts


def pixels(png):
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)


def blue(image):
    """The number of pixels in the darkest color of the scale."""
    return int((np.abs(image - (8, 48, 107)).sum(2) < 6).sum())


def test_cells_are_shaded_by_their_part_of_the_true_label():
    labels = ("cat", "$do$g")
    right = pixels(confusion_figure(labels, np.diag([9, 1]), "mine on pets"))
    half = pixels(confusion_figure(labels, np.array([[9, 9], [1, 1]]), "mine on pets"))
    assert blue(right) > 20_000 + blue(half)


@pytest.mark.parametrize(("count", "inches"), [(2, 3.84), (60, 16.0), (300, 16.0)])
def test_many_labels_do_not_make_a_larger_figure(count, inches):
    labels = tuple(f"label {index}" for index in range(count))
    image = pixels(confusion_figure(labels, np.eye(count, dtype=int), "many"))
    assert image.shape[0] == int(inches * DOTS_PER_INCH)


def test_only_cells_that_are_not_empty_have_a_number():
    class Axes:
        texts = ()

        def text(self, column, row, text, *, color, **options):
            self.texts += ((column, row, text, color),)

    axes = Axes()
    counts = np.array([[1234, 0], [1_500_000, 500]])
    write_counts(axes, counts, counts / counts.sum(1, keepdims=True))
    assert axes.texts == (
        (0, 0, "1,234", "white"),
        (0, 1, "1.5e+06", "white"),
        (1, 1, "500", "black"),
    )


def test_a_long_name_is_shortened():
    assert shortened("tabby") == "tabby"
    assert shortened("x" * 100) == "x" * 23 + "…"
