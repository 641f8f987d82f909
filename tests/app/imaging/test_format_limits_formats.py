"""Structure that costs more than the pixels, by format; and structure that only looks so."""

import struct
from io import BytesIO

import pytest
from PIL import Image

from app.core.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat
from app.imaging.decode import MAX_SIDE, Photo, decode
from app.imaging.format_limits import (
    MAX_BLOCKS,
    MAX_SCANS,
    MAX_STRIPS,
    MAX_TAGS,
    check_exif,
    check_structure,
    max_scans,
)
from models.preprocessing import Preprocessing
from tests.hostile import jpeg, others, png, tiff
from tests.hostile.case import drawn, entries, shared_directories

MAX_PIXELS = 50_000_000


def test_scans_after_the_end_of_a_progressive_jpeg_do_not_count():
    tail = b"\xff\xda\0\x02" * (2 * MAX_SCANS)
    check_structure("JPEG", jpeg.scans(64, 10) + tail, MAX_PIXELS)
    with pytest.raises(InvalidImage, match="scans"):
        check_structure("JPEG", jpeg.scans(64, 2 * MAX_SCANS), MAX_PIXELS)


def test_scans_of_a_sequential_jpeg_count_if_it_has_several():
    def frame(components: int) -> bytes:
        return jpeg.SOI + jpeg.tables() + jpeg.frame(0xC0, 64, 64, components)

    scans = jpeg.scan(b"", 0, 63) * (2 * MAX_SCANS) + jpeg.EOI
    check_structure("JPEG", frame(1) + scans, MAX_PIXELS)  # the decoder stops after the first
    with pytest.raises(InvalidImage, match="scans"):
        check_structure("JPEG", frame(3) + scans, MAX_PIXELS)


@pytest.mark.parametrize("frame", [0xC9, 0xCA])
def test_a_jpeg_in_arithmetic_coding_is_refused(frame):
    with pytest.raises(UnsupportedImageFormat, match="arithmetic"):
        check_structure(
            "JPEG", jpeg.SOI + jpeg.tables() + jpeg.frame(frame, 64, 64) + jpeg.EOI, MAX_PIXELS
        )


@pytest.mark.parametrize(
    ("pixels", "scans"),
    [(1, 100), (4 * 10**6, 100), (10**7, 100), (2 * 10**7, 50), (24 * 10**6, 41), (MAX_PIXELS, 20),
     (2 * MAX_PIXELS, 20)],
)  # fmt: skip
def test_a_larger_jpeg_may_have_fewer_scans(pixels, scans):
    assert max_scans(pixels, MAX_PIXELS) == scans


def test_the_scans_of_a_large_jpeg_are_limited():
    check_structure("JPEG", jpeg.refinements(7070, 20), MAX_PIXELS)
    with pytest.raises(InvalidImage, match="more than 20 scans, the limit at 49984900 pixels"):
        check_structure("JPEG", jpeg.refinements(7070, 21), MAX_PIXELS)


def test_the_limit_on_scans_grows_with_the_limit_on_pixels():
    with pytest.raises(InvalidImage, match="more than 40 scans"):
        check_structure("JPEG", jpeg.refinements(500, 41), 500_000)
    check_structure("JPEG", jpeg.refinements(500, 41), 1_000_000)


def test_a_jpeg_in_a_tiff_has_one_scan():
    def tiled(tile: bytes) -> bytes:
        return tiff.tiles((64, 64), (32, 32), tile, tiff.JPEG, apart=True)

    check_structure("TIFF", tiled(drawn("JPEG", 32, 32, "L")), MAX_PIXELS)
    with pytest.raises(InvalidImage, match="several scans"):
        check_structure("TIFF", tiled(jpeg.refinements(32, 90)), MAX_PIXELS)


@pytest.mark.parametrize("compression", [tiff.LZMA, tiff.DEFLATE, tiff.JPEG])
def test_compressed_tiles_that_share_their_data_are_refused(compression):
    def tiled(apart: bool) -> bytes:
        return tiff.tiles((64, 64), (16, 16), bytes(900), compression, apart)

    check_structure("TIFF", tiled(apart=True), MAX_PIXELS)
    with pytest.raises(InvalidImage, match="2 times its bytes"):
        check_structure("TIFF", tiled(apart=False), MAX_PIXELS)


def test_sizes_of_strips_beyond_the_end_of_a_tiff_do_not_count():
    tags = {tiff.SIZES: 2**32 - 1}
    check_structure("TIFF", tiff.gray(8, 8, tiff.LZW, bytes(99), tags=tags), MAX_PIXELS)


def test_a_tiff_with_a_tag_twice_is_refused():
    tag = struct.pack("<HHII", 256, 4, 1, 9)
    with pytest.raises(InvalidImage, match="256 twice"):
        check_structure("TIFF", b"II*\0" + struct.pack("<IH", 8, 2) + 2 * tag, MAX_PIXELS)


@pytest.mark.parametrize("where", [len(png.MAGIC), png.END_OF_HEADER])
def test_the_header_of_a_png_is_at_its_start(where):
    """The size comes from the start of the file; Pillow uses the last header."""
    plain = drawn("PNG")
    extra = png.chunk(b"tEXt", b"a\0b") if where < 33 else plain[8 : png.END_OF_HEADER]
    with pytest.raises(InvalidImage, match="header"):
        check_structure("PNG", plain[:where] + extra + plain[where:], MAX_PIXELS)


def with_exif(kind: str, block: bytes) -> bytes:
    plain = drawn(kind)
    if kind == "PNG":
        return png.with_chunks(png.chunk(b"eXIf", block))
    if kind == "JPEG":
        parts = [block[at : at + 65_000] for at in range(0, len(block), 65_000)]
        return jpeg.after_soi(
            plain, b"".join(jpeg.segment(0xE1, b"Exif\0\0" + part) for part in parts)
        )
    pixels = (plain[12:16], plain[20:])
    return others.riff(others.canvas(64, 48, 8), pixels, (b"EXIF", block))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, which the service ignores
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_tags_of_exif_data_are_limited_in_all_directories(kind):
    few, many = shared_directories(MAX_TAGS // 2 - 4), shared_directories(MAX_TAGS // 2)
    photo = decode(with_exif(kind, few), Preprocessing(size=(8, 8)), max_pixels=10**6)
    assert (photo.width, photo.height) == (48, 64)  # turned
    for block in (many, entries(9 * 10**5, big=False, orientation=6)):
        with pytest.raises(InvalidImage, match="EXIF data"):
            decode(with_exif(kind, block), Preprocessing(size=(8, 8)), max_pixels=10**6)


def test_a_loop_of_exif_directories_ends():
    loop = struct.pack("<HHII", 0x8769, 4, 1, 8)
    with pytest.raises(InvalidImage, match="EXIF data"):
        check_exif(b"II*\0\x08\0\0\0\x01\0" + loop)


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


@pytest.mark.parametrize("tag", [tiff.OFFSETS, tiff.TILE_OFFSETS])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_strips_and_tiles_of_a_tiff_are_limited(tag, order):
    def lists(count: int) -> bytes:
        start = struct.pack(order + "IH", 8, 1)
        mark = b"II*\0" if order == "<" else b"MM\0*"
        return mark + start + struct.pack(order + "HHII", tag, 4, count, 0) + bytes(4)

    check_structure("TIFF", lists(MAX_STRIPS), MAX_PIXELS)
    with pytest.raises(InvalidImage, match="strips"):
        check_structure("TIFF", lists(MAX_STRIPS + 1), MAX_PIXELS)


def test_the_tags_of_a_tiff_are_limited():
    check_structure("TIFF", entries(20_000, big=True), MAX_PIXELS)
    with pytest.raises(InvalidImage, match="tags"):
        check_structure("TIFF", entries(2_000_000, big=True), MAX_PIXELS)


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_a_truncated_file_is_left_to_the_decoder(kind):
    data = drawn(kind, 8, 8)
    for length in range(len(data)):
        check_structure(kind, data[:length], MAX_PIXELS)


@pytest.mark.parametrize("size", [(1, MAX_SIDE), (MAX_SIDE, 1)])
def test_the_pixels_of_a_side_are_limited(size):
    def photo(extra: int) -> Photo:
        data = png.black(*(side + extra * (side > 1) for side in size), color=0)
        return decode(data, Preprocessing(size=(8, 8)), max_pixels=50_000_000)

    assert (photo(0).width, photo(0).height) == size
    with pytest.raises(ImageTooLarge, match="side"):
        photo(1)
