"""Classes drawn over the photograph: colors, opacity, and the class that stays unpainted."""

import numpy as np
import pytest
from PIL import Image

from app.imaging.overlay import Overlay, background_class, draw_overlay

COLORS = np.array([(0, 0, 0), (200, 10, 30), (0, 250, 90)], np.uint8)
LABELS = ("background", "cat", "none", "7", "1")
rng = np.random.default_rng(3)


def drawn(overlay: Overlay, colors: np.ndarray = COLORS) -> tuple[np.ndarray, ...]:
    """The photograph, the label map and the overlay of 600 rows, which are several strips."""
    pixels = rng.integers(0, 256, (600, 20, 3), dtype=np.uint8)
    label_map = rng.integers(0, len(colors), (600, 20)).astype(np.uint16)
    image = draw_overlay(label_map, colors, Image.fromarray(pixels), overlay)
    return pixels, label_map, np.asarray(image)


@pytest.mark.parametrize("opacity", [0, 0.25, 0.5, 1])
@pytest.mark.parametrize("background", [None, 0, 2])
def test_each_pixel_is_the_image_mixed_with_the_color_of_its_class(opacity, background):
    pixels, label_map, image = drawn(Overlay(opacity, background))
    expected = (1 - opacity) * pixels + opacity * COLORS[label_map]
    unpainted = label_map == (-1 if background is None else background)
    expected[unpainted] = pixels[unpainted]
    assert np.abs(image - expected).max() <= 1
    np.testing.assert_array_equal(image[unpainted], pixels[unpainted])


def test_above_256_classes_the_background_stays_unpainted_too():
    colors = rng.integers(0, 256, (300, 3), dtype=np.uint8)
    pixels, label_map, image = drawn(Overlay(1.0, 299), colors)
    unpainted = label_map == 299
    assert unpainted.any()
    np.testing.assert_array_equal(image, np.where(unpainted[..., None], pixels, colors[label_map]))


@pytest.mark.parametrize(
    ("name", "labels", "index"),
    [
        ("auto", LABELS, 0),
        ("auto", ("_Background_", "cat"), 0),
        ("auto", ("cat", "background"), None),
        ("none", LABELS, None),
        ("none", ("none", "cat"), None),
        ("cat", LABELS, 1),
        ("4", LABELS, 4),
        ("1", LABELS, 1),  # an index before a label
        ("7", LABELS, 3),  # no class has this index, but one has this label
    ],
)
def test_the_background_is_a_label_an_index_or_found_by_its_label(name, labels, index):
    assert background_class(name, labels) == index


@pytest.mark.parametrize("name", ["", "dog", "Cat", "5", "-1", "1.0", "²", "9" * 5000])
def test_an_unknown_background_is_an_error_that_says_what_is_possible(name):
    with pytest.raises(
        ValueError, match="auto, none, a label of the model or an index from 0 to 4"
    ):
        background_class(name, LABELS)
