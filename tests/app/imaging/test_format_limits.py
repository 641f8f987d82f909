"""PNGs and GIFs whose structure costs more than their pixels; every format is checked."""

from io import BytesIO

import pytest
from PIL import Image

from app.core.errors import InvalidImage
from app.imaging.decode import decode
from app.imaging.format_limits import MAX_BLOCKS, MAX_CHUNKS, check_structure
from models.preprocessing import Preprocessing
from tests.hostile import others, png
from tests.hostile.case import drawn

MAX_PIXELS = 50_000_000


def is_accepted(kind: str, data: bytes) -> bool:
    try:
        check_structure(kind, data, MAX_PIXELS)
    except InvalidImage:
        return False
    assert decode(data, Preprocessing(size=(8, 8)), max_pixels=10**6).width == 64
    return True


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_ordinary_files_are_accepted(kind):
    assert is_accepted(kind, drawn(kind))


@pytest.mark.parametrize("where", [33, -12], ids=["before the pixels", "after them"])
def test_a_png_of_many_chunks_is_refused(where):
    data = drawn("PNG")
    own = 3  # IHDR, IDAT, IEND
    for count, accepted in ((MAX_CHUNKS - own - 1, True), (MAX_CHUNKS, False)):
        assert (
            is_accepted("PNG", data[:where] + png.chunk(b"abCd") * count + data[where:]) is accepted
        )


@pytest.mark.parametrize("where", [len(png.MAGIC), png.END_OF_HEADER])
def test_the_header_of_a_png_is_at_its_start(where):
    """The size comes from the start of the file; Pillow uses the last header."""
    plain = drawn("PNG")
    extra = png.chunk(b"tEXt", b"a\0b") if where < 33 else plain[8 : png.END_OF_HEADER]
    with pytest.raises(InvalidImage, match="header"):
        check_structure("PNG", plain[:where] + extra + plain[where:], MAX_PIXELS)


def test_a_png_may_have_one_colour_profile():
    profile = png.chunk(b"iCCP", b"k\0\0" + png.zeros(1000))
    check_structure("PNG", png.with_chunks(profile), MAX_PIXELS)
    with pytest.raises(InvalidImage, match="profile"):
        check_structure("PNG", png.with_chunks(profile, 2), MAX_PIXELS)


def test_bytes_after_the_end_of_a_png_do_not_count():
    check_structure("PNG", drawn("PNG") + bytes(2_000_000), MAX_PIXELS)


def test_the_blocks_before_the_first_frame_of_a_gif_are_limited():
    check_structure("GIF", others.gif(9, 9, b"!\xfe" + b"\xff" + b" " * 255 + b"\0"), MAX_PIXELS)
    with pytest.raises(InvalidImage, match="blocks"):
        check_structure(
            "GIF", others.gif(9, 9, b"!\xfe" + b"\x01 " * MAX_BLOCKS + b"\0"), MAX_PIXELS
        )


def test_frames_of_a_gif_do_not_count():
    frames = [Image.new("P", (4, 4), index % 5) for index in range(300)]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    check_structure("GIF", file.getvalue() + bytes(MAX_BLOCKS * 2), MAX_PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF"])
def test_a_truncated_file_is_left_to_the_decoder(kind):
    data = drawn(kind, 8, 8, **({"progressive": True} if kind == "JPEG" else {}))
    for length in range(len(data)):
        check_structure(kind, data[:length], MAX_PIXELS)
