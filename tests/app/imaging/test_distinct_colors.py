"""Generated colors: their number and their coordinates in Oklab; distances are in test_palettes."""

import numpy as np
import pytest

from app.imaging.distinct_colors import distinct_colors, oklab


def test_the_first_colors_are_those_that_are_given():
    first = [(0, 0, 0), (230, 159, 0)]
    assert distinct_colors(5, first)[:2].tolist() == [list(color) for color in first]
    assert distinct_colors(1, first).tolist() == [[0, 0, 0]]


def test_colors_repeat_when_no_others_are_left():
    colors = distinct_colors(5000, [(0, 0, 0)])
    assert colors.shape == (5000, 3)
    assert 1000 < len(np.unique(colors, axis=0)) < 5000


def test_oklab_has_the_values_of_its_definition():
    white, red = oklab(np.array([[255, 255, 255], [255, 0, 0]]))
    assert white == pytest.approx([1, 0, 0], abs=1e-4)
    assert red == pytest.approx([0.62796, 0.22486, 0.12585], abs=1e-4)
