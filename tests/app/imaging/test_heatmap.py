"""Relevance drawn over photographs."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.imaging import heatmap


def drawn(rgb, grid, box) -> np.ndarray:
    picture = Image.open(BytesIO(heatmap.render(rgb, np.float32(grid), box, {})))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", rgb.size)
    return np.asarray(picture).astype(int)


def test_lightness_grows_from_colour_to_colour():
    linear = (heatmap.colours() / 255) ** 2.2
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).mean() > 0.97  # with 8 bits some are equal
    assert (np.diff(luminance) > -1e-4).all()
    lightness = 116 * luminance ** (1 / 3)
    assert np.diff(lightness[::32]).min() > 0.5 * np.diff(lightness[::32]).mean()


def test_the_most_relevant_cell_is_the_lightest_at_its_position():
    grid = np.zeros((4, 8))
    grid[1, 6] = 0.5
    picture = drawn(Image.new("RGB", (80, 40), "red"), grid, (0, 0, 40, 80))
    y, x = np.unravel_index(picture.sum(2).argmax(), (40, 80))
    assert (y // 10, x // 10) == (1, 6)


def test_the_relevance_of_a_crop_is_drawn_at_its_position():
    rgb = Image.new("RGB", (100, 60), "white")
    picture = drawn(rgb, [[0.2, 0.2], [0.2, 0.4]], (0, 20, 60, 80))
    outside = np.r_[0:20, 80:100]
    assert (picture[:, outside] == picture[0, 0]).all()  # drawn as the least relevant
    y, x = np.unravel_index(picture.sum(2).argmax(), (60, 100))
    assert 30 <= y < 60
    assert 50 <= x < 80


def test_a_grid_may_extend_beyond_the_photograph():
    picture = drawn(Image.new("RGB", (10, 20)), [[0.0, 1.0, 0.0]], (0, -10, 20, 20))
    assert (picture.sum(2)[:, 5] >= picture.sum(2)[:, 0]).all()
    assert picture.sum(2).min() > 150  # the black cells are outside the photograph


def test_colour_shows_only_relevance():
    grid = [[0.0, 1.0]]
    red, grey = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), (76, 76, 76))
    assert (drawn(red, grid, (0, 0, 10, 20)) == drawn(grey, grid, (0, 0, 10, 20))).all()


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_equal_cells_are_not_coloured(value):
    picture = drawn(Image.new("RGB", (8, 8), "white"), np.full((2, 2), value), (0, 0, 8, 8))
    assert (picture == picture[0, 0]).all()


def test_texts_are_in_the_text_chunks():
    grid = np.zeros((1, 1), np.float32)
    data = heatmap.render(Image.new("RGB", (4, 4)), grid, (0, 0, 4, 4), {"label": "Löwe"})
    assert Image.open(BytesIO(data)).text == {"label": "Löwe"}
