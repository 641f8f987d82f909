"""JPEGs whose segments or scans cost more than their pixels, and similar files."""

import struct
from io import BytesIO

import pytest
from PIL import Image

from app.core.errors import InvalidImage, UnsupportedImageFormat
from app.imaging.cost import decode_cost
from app.imaging.decode import decode
from app.imaging.jpeg_structure import (
    MAX_SCANS,
    MAX_SEGMENTS,
    check_scans,
    jpeg_segments,
    max_scans,
)
from models.preprocessing import Preprocessing
from tests.hostile import jpeg
from tests.hostile.case import drawn

EXIF, COMMENT = b"\xff\xe1", b"\xff\xfe"
MAX_PIXELS = 50_000_000


def check_jpeg(data: bytes, max_pixels: int) -> None:
    check_scans(data, jpeg_segments(data), max_pixels)


def with_scans(data: bytes, count: int) -> bytes:
    """A JPEG whose last scan is repeated until it has `count` scans."""
    start, present = data.rindex(b"\xff\xda"), data.count(b"\xff\xda")
    return data[:-2] + data[start:-2] * (count - present) + data[-2:]


def is_accepted(data: bytes) -> bool:
    try:
        check_jpeg(data, MAX_PIXELS)
    except InvalidImage:
        return False
    assert decode(data, Preprocessing(size=(8, 8)), max_pixels=10**6).width == 64
    return True


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_the_output_of_encoders_is_accepted(options):
    assert is_accepted(drawn("JPEG", **options))


def test_a_progressive_jpeg_has_a_hundred_scans_at_most():
    data = drawn("JPEG", progressive=True)
    assert is_accepted(with_scans(data, MAX_SCANS))
    assert not is_accepted(with_scans(data, MAX_SCANS + 1))


def test_bytes_that_look_like_scans_do_not_count_in_a_sequential_jpeg():
    data = drawn("JPEG")
    thumbnails = COMMENT + struct.pack(">H", 2 + 400) + b"\xff\xda" * 200
    assert is_accepted(data[:2] + thumbnails + data[2:])


@pytest.mark.parametrize(
    "piece", [COMMENT + b"\0\x02", b"\xff", EXIF + b"\0\x08Exif\0\0"], ids=["empty", "fill", "EXIF"]
)
def test_a_jpeg_of_many_segments_is_refused(piece):
    data = drawn("JPEG")
    assert is_accepted(data[:2] + piece * 100 + data[2:])
    assert not is_accepted(data[:2] + piece * MAX_SEGMENTS + data[2:])


def test_scans_after_the_end_of_a_progressive_jpeg_do_not_count():
    tail = b"\xff\xda\0\x02" * (2 * MAX_SCANS)
    check_jpeg(jpeg.scans(64, 10) + tail, MAX_PIXELS)
    with pytest.raises(InvalidImage, match="scans"):
        check_jpeg(jpeg.scans(64, 2 * MAX_SCANS), MAX_PIXELS)


@pytest.mark.parametrize(
    "before",
    [jpeg.EOI, jpeg.segment(0xDB, b"\0" + bytes([16] * 64)) + jpeg.EOI],
    ids=["end", "tables and end"],
)
def test_an_end_of_the_image_before_the_first_scan_hides_nothing(before):
    """Pillow and libjpeg skip it."""
    data = jpeg.SOI + before + drawn("JPEG", progressive=True)
    assert is_accepted(data)
    assert decode_cost(data, MAX_PIXELS).pixels == 64 * 48
    assert not is_accepted(with_scans(data, MAX_SCANS + 1))


@pytest.mark.parametrize("marker", [0xC8, *range(0xF0, 0xFE)])
def test_a_reserved_marker_has_no_length_as_in_pillow(marker):
    data = jpeg.SOI + bytes([0xFF, marker]) + drawn("JPEG")[2:]
    assert Image.open(BytesIO(data)).size == (64, 48)
    assert decode_cost(data, MAX_PIXELS).pixels == 64 * 48


def test_scans_of_a_sequential_jpeg_count_if_it_has_several():
    def frame(components: int) -> bytes:
        return jpeg.SOI + jpeg.tables() + jpeg.frame(0xC0, 64, 64, components)

    scans = jpeg.scan(b"", 0, 63) * (2 * MAX_SCANS) + jpeg.EOI
    check_jpeg(frame(1) + scans, MAX_PIXELS)  # the decoder stops after the first
    with pytest.raises(InvalidImage, match="scans"):
        check_jpeg(frame(3) + scans, MAX_PIXELS)


@pytest.mark.parametrize("frame", [0xC9, 0xCA])
def test_a_jpeg_in_arithmetic_coding_is_refused(frame):
    with pytest.raises(UnsupportedImageFormat, match="arithmetic"):
        check_jpeg(jpeg.SOI + jpeg.tables() + jpeg.frame(frame, 64, 64) + jpeg.EOI, MAX_PIXELS)


@pytest.mark.parametrize(
    ("pixels", "scans"),
    [(1, 100), (4 * 10**6, 100), (10**7, 100), (2 * 10**7, 50), (24 * 10**6, 41), (MAX_PIXELS, 20),
     (2 * MAX_PIXELS, 20)],
)  # fmt: skip
def test_a_larger_jpeg_may_have_fewer_scans(pixels, scans):
    assert max_scans(pixels, MAX_PIXELS) == scans


def test_the_scans_of_a_large_jpeg_are_limited():
    check_jpeg(jpeg.refinements(7070, 20), MAX_PIXELS)
    with pytest.raises(InvalidImage, match="more than 20 scans, the limit at 49984900 pixels"):
        check_jpeg(jpeg.refinements(7070, 21), MAX_PIXELS)


def test_the_limit_on_scans_grows_with_the_limit_on_pixels():
    with pytest.raises(InvalidImage, match="more than 40 scans"):
        check_jpeg(jpeg.refinements(500, 41), 500_000)
    check_jpeg(jpeg.refinements(500, 41), 1_000_000)
