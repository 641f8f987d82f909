"""Files whose structure costs more than their pixels, and similar files that are accepted."""

import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from app.core.errors import InvalidImage
from app.imaging.decode import decode
from app.imaging.format_limits import MAX_CHUNKS, MAX_SCANS, MAX_SEGMENTS, check_structure
from models.preprocessing import Preprocessing

EXIF, COMMENT = b"\xff\xe1", b"\xff\xfe"
MAX_PIXELS = 50_000_000


def picture(kind: str, **options) -> bytes:
    file = BytesIO()
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_scans(data: bytes, count: int) -> bytes:
    """A JPEG whose last scan is repeated until it has `count` scans."""
    start, present = data.rindex(b"\xff\xda"), data.count(b"\xff\xda")
    return data[:-2] + data[start:-2] * (count - present) + data[-2:]


def is_accepted(kind: str, data: bytes) -> bool:
    try:
        check_structure(kind, data, MAX_PIXELS)
    except InvalidImage:
        return False
    assert decode(data, Preprocessing(size=(8, 8)), max_pixels=10**6).width == 64
    return True


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_the_output_of_encoders_is_accepted(options):
    assert is_accepted("JPEG", picture("JPEG", **options))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_other_formats_are_accepted(kind):
    assert is_accepted(kind, picture(kind))


def test_a_progressive_jpeg_has_a_hundred_scans_at_most():
    data = picture("JPEG", progressive=True)
    assert is_accepted("JPEG", with_scans(data, MAX_SCANS))
    assert not is_accepted("JPEG", with_scans(data, MAX_SCANS + 1))


def test_bytes_that_look_like_scans_do_not_count_in_a_sequential_jpeg():
    data = picture("JPEG")
    thumbnails = COMMENT + struct.pack(">H", 2 + 400) + b"\xff\xda" * 200
    assert is_accepted("JPEG", data[:2] + thumbnails + data[2:])


@pytest.mark.parametrize(
    "piece", [COMMENT + b"\0\x02", b"\xff", EXIF + b"\0\x08Exif\0\0"], ids=["empty", "fill", "EXIF"]
)
def test_a_jpeg_of_many_segments_is_refused(piece):
    data = picture("JPEG")
    assert is_accepted("JPEG", data[:2] + piece * 100 + data[2:])
    assert not is_accepted("JPEG", data[:2] + piece * MAX_SEGMENTS + data[2:])


@pytest.mark.parametrize("where", [33, -12], ids=["before the pixels", "after them"])
def test_a_png_of_many_chunks_is_refused(where):
    data = picture("PNG")
    own = 3  # IHDR, IDAT, IEND
    for count, accepted in ((MAX_CHUNKS - own - 1, True), (MAX_CHUNKS, False)):
        assert is_accepted("PNG", data[:where] + chunk(b"abCd") * count + data[where:]) is accepted


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_file_is_left_to_the_decoder(kind):
    data = picture(kind, **({"progressive": True} if kind == "JPEG" else {}))
    for length in range(len(data)):
        check_structure(kind, data[:length], MAX_PIXELS)
