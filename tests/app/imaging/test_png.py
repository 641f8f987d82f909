"""PNG files with text chunks."""

from io import BytesIO

import numpy as np
from PIL import Image

from app.imaging.png import encode_png


def noise() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_the_file_has_the_pixels_and_the_texts():
    texts = {"label": "Löwe 猫", "labels": "{}"}
    opened = Image.open(BytesIO(encode_png(noise(), texts)))
    assert opened.format == "PNG"
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(noise()))
    assert opened.text == texts


def test_the_options_reach_the_encoder():
    flat = Image.new("L", (200, 200))
    stored, compressed = (len(encode_png(flat, {}, compress_level=level)) for level in (0, 9))
    assert stored > 40_000 > compressed
