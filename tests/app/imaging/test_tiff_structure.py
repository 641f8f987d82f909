"""TIFFs and EXIF data whose tags, strips or tiles cost more than their pixels."""

import struct

import pytest

from app.core.errors import InvalidImage
from app.imaging.decode import decode
from app.imaging.tiff_structure import MAX_STRIPS, MAX_TAGS, check_exif, check_tiff
from models.preprocessing import Preprocessing
from tests.hostile import jpeg, others, png, tiff
from tests.hostile.case import drawn, entries, shared_directories


def test_a_jpeg_in_a_tiff_has_one_scan():
    def tiled(tile: bytes) -> bytes:
        return tiff.tiles((64, 64), (32, 32), tile, tiff.JPEG, apart=True)

    check_tiff(tiled(drawn("JPEG", 32, 32, "L")))
    with pytest.raises(InvalidImage, match="several scans"):
        check_tiff(tiled(jpeg.refinements(32, 90)))


@pytest.mark.parametrize("compression", [tiff.LZMA, tiff.DEFLATE, tiff.JPEG])
def test_compressed_tiles_that_share_their_data_are_refused(compression):
    def tiled(apart: bool) -> bytes:
        return tiff.tiles((64, 64), (16, 16), bytes(900), compression, apart)

    check_tiff(tiled(apart=True))
    with pytest.raises(InvalidImage, match="2 times its bytes"):
        check_tiff(tiled(apart=False))


def test_sizes_of_strips_beyond_the_end_of_a_tiff_do_not_count():
    tags = {tiff.SIZES: 2**32 - 1}
    check_tiff(tiff.gray(8, 8, tiff.LZW, bytes(99), tags=tags))


@pytest.mark.parametrize("tag", [tiff.OFFSETS, tiff.TILE_OFFSETS])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_strips_and_tiles_of_a_tiff_are_limited(tag, order):
    def lists(count: int) -> bytes:
        start = struct.pack(order + "IH", 8, 1)
        mark = b"II*\0" if order == "<" else b"MM\0*"
        return mark + start + struct.pack(order + "HHII", tag, 4, count, 0) + bytes(4)

    check_tiff(lists(MAX_STRIPS))
    with pytest.raises(InvalidImage, match="strips"):
        check_tiff(lists(MAX_STRIPS + 1))


def test_the_tags_of_a_tiff_are_limited():
    check_tiff(entries(20_000, big=True))
    with pytest.raises(InvalidImage, match="tags"):
        check_tiff(entries(2_000_000, big=True))


def test_a_tiff_with_a_tag_twice_is_refused():
    tag = struct.pack("<HHII", 256, 4, 1, 9)
    with pytest.raises(InvalidImage, match="256 twice"):
        check_tiff(b"II*\0" + struct.pack("<IH", 8, 2) + 2 * tag)


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
