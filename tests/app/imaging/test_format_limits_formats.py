"""Structure that costs more than the pixels, format by format; and what only looks like it."""

import struct
from io import BytesIO

import pytest
from PIL import Image

from app.core.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat
from app.imaging.decode import LONGEST_SIDE, Photo, decode
from app.imaging.format_limits import MOST_BLOCKS, MOST_SCANS, MOST_STRIPS, refuse_excess
from models.preprocessing import Preprocessing
from tests.hostile import jpeg, others, png, tiff
from tests.hostile.case import drawn, entries


def test_scans_of_what_lies_behind_a_progressive_jpeg_do_not_count():
    film = b"\xff\xda\0\x02" * (2 * MOST_SCANS)
    refuse_excess("JPEG", jpeg.scans(64, 10) + film)
    with pytest.raises(InvalidImage, match="scans"):
        refuse_excess("JPEG", jpeg.scans(64, 2 * MOST_SCANS))


def test_scans_of_a_sequential_jpeg_count_where_it_has_several():
    def frame(components: int) -> bytes:
        return jpeg.SOI + jpeg.tables() + jpeg.frame(0xC0, 64, 64, components)

    scans = jpeg.scan(b"", 0, 63) * (2 * MOST_SCANS) + jpeg.EOI
    refuse_excess("JPEG", frame(1) + scans)  # the decoder ends with the first
    with pytest.raises(InvalidImage, match="scans"):
        refuse_excess("JPEG", frame(3) + scans)


@pytest.mark.parametrize("frame", [0xC9, 0xCA])
def test_a_jpeg_in_arithmetic_coding_is_not_taken(frame):
    with pytest.raises(UnsupportedImageFormat, match="arithmetic"):
        refuse_excess("JPEG", jpeg.SOI + jpeg.tables() + jpeg.frame(frame, 64, 64) + jpeg.EOI)


def test_a_png_has_one_colour_profile():
    profile = png.chunk(b"iCCP", b"k\0\0" + png.zeros(1000))
    refuse_excess("PNG", png.with_chunks(profile))
    with pytest.raises(InvalidImage, match="profile"):
        refuse_excess("PNG", png.with_chunks(profile, 2))


def test_what_lies_behind_the_end_of_a_png_does_not_count():
    refuse_excess("PNG", drawn("PNG") + bytes(2_000_000))


def test_a_gif_has_few_blocks_before_its_first_frame():
    refuse_excess("GIF", others.gif(9, 9, b"!\xfe" + b"\xff" + b" " * 255 + b"\0"))
    with pytest.raises(InvalidImage, match="blocks"):
        refuse_excess("GIF", others.gif(9, 9, b"!\xfe" + b"\x01 " * MOST_BLOCKS + b"\0"))


def test_frames_of_a_gif_do_not_count():
    frames = [Image.new("P", (4, 4), index % 5) for index in range(300)]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    refuse_excess("GIF", file.getvalue() + bytes(MOST_BLOCKS * 2))


@pytest.mark.parametrize("tag", [tiff.OFFSETS, tiff.TILE_OFFSETS])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_has_few_strips_or_tiles(tag, order):
    def lists(count: int) -> bytes:
        start = struct.pack(order + "IH", 8, 1)
        mark = b"II*\0" if order == "<" else b"MM\0*"
        return mark + start + struct.pack(order + "HHII", tag, 4, count, 0) + bytes(4)

    refuse_excess("TIFF", lists(MOST_STRIPS))
    with pytest.raises(InvalidImage, match="strips"):
        refuse_excess("TIFF", lists(MOST_STRIPS + 1))


def test_a_tiff_has_few_tags():
    refuse_excess("TIFF", entries(10_000, big=True))
    with pytest.raises(InvalidImage, match="tags"):
        refuse_excess("TIFF", entries(2_000_000, big=True))


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_a_file_that_ends_anywhere_is_left_to_the_decoder(kind):
    data = drawn(kind, 8, 8)
    for length in range(len(data)):
        refuse_excess(kind, data[:length])


@pytest.mark.parametrize("size", [(1, LONGEST_SIDE), (LONGEST_SIDE, 1)])
def test_a_side_may_have_so_many_pixels_and_no_more(size):
    def photo(more: int) -> Photo:
        data = png.black(*(side + more * (side > 1) for side in size), color=0)
        return decode(data, Preprocessing(size=(8, 8)), max_pixels=50_000_000)

    assert (photo(0).width, photo(0).height) == size
    with pytest.raises(ImageTooLarge, match="side"):
        photo(1)
