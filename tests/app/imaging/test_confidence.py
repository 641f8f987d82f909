"""The confidence as a PNG file, and its mean."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.imaging import confidence, masks


def test_the_png_is_8_bit_grey_with_the_values_as_they_are_and_says_what_they_mean():
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    file = confidence.render(values)
    assert (file[24], file[25]) == (8, 0)  # bit depth, color type
    image = Image.open(BytesIO(file))
    assert image.format == "PNG"
    np.testing.assert_array_equal(np.asarray(image), values)
    assert image.text == {
        "confidence": "pixel value = probability of the pixel's class * 255, rounded to the "
        "nearest integer"
    }


def test_the_mean_is_that_of_the_classs_own_pixels():
    label_map = np.array([[0, 2, 2], [2, 2, 0]], np.uint8)
    found = masks.statistics(label_map, ("a", "b", "c"))
    sums = np.array([1.5, 0.0, 1.0])
    assert [confidence.mean(sums, entry) for entry in found] == [0.25, 0.75]


def test_the_mean_of_certain_pixels_is_not_above_1_by_rounding():
    found = masks.statistics(np.zeros((10, 10), np.uint8), ("a",))
    assert confidence.mean(np.array([100.0000001]), found[0]) == 1.0
    assert confidence.mean(np.array([99.9]), found[0]) == pytest.approx(0.999)
