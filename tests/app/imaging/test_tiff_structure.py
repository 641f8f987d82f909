"""TIFFs and EXIF data whose tags, strips or tiles cost more than their pixels."""

import struct
from io import BytesIO

import pytest
from PIL import Image

from app.core.errors import InvalidImage, UnsupportedImageFormat
from app.imaging.decode import decode
from app.imaging.tiff_structure import (
    MAX_STRIPS,
    MAX_TAGS,
    PIXEL_TAGS,
    check_exif,
    check_tiff,
    tiff_tags,
)
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
    check_tiff(drawn("TIFF", tiffinfo={50_000 + tag: 1 for tag in range(900)}))
    with pytest.raises(InvalidImage, match="the TIFF has more than 1024 tags"):
        check_tiff(entries(2_000_000, big=True))


@pytest.mark.parametrize("tag", sorted(PIXEL_TAGS))
@pytest.mark.parametrize("kind", tiff.UNUSUAL.values(), ids=tiff.UNUSUAL)
def test_a_pixel_tag_of_an_unusual_type_is_refused(tag, kind):
    data = tiff.tiff({tag: 1}, types={tag: kind})
    with pytest.raises(InvalidImage, match=f"the TIFF has tag {tag} of an unusual type"):
        check_tiff(data)
    with pytest.raises(InvalidImage, match=f"tag {tag} of an unusual type"):
        decode(data, Preprocessing(size=(8, 8)), max_pixels=10**6)


def test_a_compression_in_words_is_refused():
    """Pillow reads it."""
    data = tiff.gray(9, 9, tiff.RAW, bytes(81)).replace(
        struct.pack("<HHII", tiff.COMPRESSION, 4, 1, tiff.RAW),
        struct.pack("<HHI4s", tiff.COMPRESSION, tiff.UNUSUAL["ASCII"], 4, b"LZW"),
    )
    assert Image.open(BytesIO(data)).info["compression"] == "tiff_lzw"
    with pytest.raises(InvalidImage, match="tag 259 of an unusual type"):
        check_tiff(data)


@pytest.mark.parametrize("kind", [0, 19, 65535])
def test_a_pixel_tag_of_an_unknown_type_is_refused(kind):
    directory = struct.pack("<IHHHII", 8, 1, 256, kind, 1, 9)
    with pytest.raises(InvalidImage, match="unusual type"):
        check_tiff(b"II*\0" + directory + bytes(4))


@pytest.mark.parametrize("kind", [tiff.BYTE, tiff.SHORT, tiff.LONG, tiff.LONG8])
def test_a_pixel_tag_may_have_any_usual_type(kind):
    data = tiff.tiff({256: 9, 257: 8}, types={256: kind})
    assert {tag: found.value for tag, found in tiff_tags(data).items()} == {256: 9, 257: 8}


def test_other_tags_may_have_any_type():
    check_tiff(drawn("TIFF", tiffinfo={50_000: 2.5, 50_001: "text", 50_002: b"bytes"}))
    check_tiff(drawn("TIFF", dpi=(72, 72)))  # fractions


def test_the_exif_data_of_a_tiff_are_limited():
    check_tiff(tiff.with_exif(900))
    with pytest.raises(InvalidImage, match="EXIF data"):
        check_tiff(tiff.with_exif(1020))


def test_a_big_endian_big_tiff_is_refused():
    """Pillow takes it for a small TIFF: it reads another directory than libtiff."""
    with pytest.raises(UnsupportedImageFormat, match="big-endian BigTIFF"):
        decode(tiff.big_endian(), Preprocessing(size=(8, 8)), max_pixels=10**6)


@pytest.mark.parametrize(("kind", "error"), [(4, "256 twice"), (9, "256 of an unusual type")])
def test_a_tiff_with_a_tag_twice_is_refused(kind, error):
    tags = struct.pack("<HHII", 256, kind, 1, 9) + struct.pack("<HHII", 256, 4, 1, 9)
    with pytest.raises(InvalidImage, match=error):
        check_tiff(b"II*\0" + struct.pack("<IH", 8, 2) + tags)


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


@pytest.mark.parametrize("kind", [3, 4, 8, 9, 13])
def test_exif_directories_are_found_if_their_offset_is_a_whole_number_of_any_type(kind):
    check_exif(shared_directories(MAX_TAGS // 2 - 4, kind))
    with pytest.raises(InvalidImage, match="EXIF data"):
        check_exif(shared_directories(MAX_TAGS // 2, kind))


def test_exif_directories_at_negative_offsets_are_not_read():
    check_exif(b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIi", 0x8769, 9, 1, -1))


def test_exif_data_with_the_header_of_a_big_endian_big_tiff_have_limits():
    """Pillow reads them as those of a small TIFF."""
    few = b"MM\0+" + struct.pack(">IH", 8, 2)
    check_exif(few + bytes(24))
    with pytest.raises(InvalidImage, match="EXIF data"):
        check_exif(b"MM\0+" + struct.pack(">IH", 8, MAX_TAGS + 1) + bytes(9999))


def test_a_loop_of_exif_directories_ends():
    loop = struct.pack("<HHII", 0x8769, 4, 1, 8)
    with pytest.raises(InvalidImage, match="EXIF data"):
        check_exif(b"II*\0\x08\0\0\0\x01\0" + loop)
