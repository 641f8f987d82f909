"""Refused images: unknown, invalid, too large; and images with invalid metadata, which decode."""

import struct
import warnings
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFile

from app.core.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat
from app.imaging.decode import (
    MAX_SIDE,
    Photo,
    decode,
    limit_pillow_pixels,
    silence_libtiff,
    sniff,
)
from models.preprocessing import Preprocessing
from tests.hostile import png

UNCHANGED = Preprocessing(size=None)
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
ORIENTED = struct.pack("<HHII", 0x0112, 3, 1, 6)  # an EXIF entry: rotate by 90 degrees


def picture(kind: str, width: int = 40, height: int = 30, **options) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def without_pixels(width: int, height: int) -> bytes:
    """A PNG with a size and no pixels, which cannot be decoded."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG_MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def exif(*entries: bytes, count: int | None = None) -> bytes:
    """An EXIF block in little-endian order."""
    number = len(entries) if count is None else count
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", number) + b"".join(entries) + bytes(4)


def size_of(data: bytes) -> tuple[int, int]:
    photo = decode(data, UNCHANGED, max_pixels=10**6)
    assert photo.pixels.shape == (photo.height, photo.width, 3)
    return photo.width, photo.height


@pytest.mark.parametrize("kind", KINDS)
def test_the_format_is_detected_from_the_bytes(kind):
    assert sniff(picture(kind)) == kind


@pytest.mark.parametrize(
    "data",
    [
        b"a",
        b"hello, world",
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"XXXX\0\0\0\0WEBP",
        b"GIF88a",
        b"\0\0\0\x1cftypavif",
        PNG_MAGIC[:-1],
        picture("JPEG2000"),
        picture("PPM"),
        picture("ICO"),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_an_unknown_format_is_unsupported(data):
    with pytest.raises(UnsupportedImageFormat) as refused:
        decode(data, UNCHANGED, max_pixels=10**6)
    assert "image/png" in refused.value.headers["Accept"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_disabled_format_is_unsupported_and_the_error_names_the_enabled_ones(kind, monkeypatch):
    data, others = picture(kind), [other for other in KINDS if other != kind]
    assert decode(data, UNCHANGED, max_pixels=10**6, formats=[kind]).width == 40
    monkeypatch.setattr(Image, "open", None)  # no plugin runs
    with pytest.raises(UnsupportedImageFormat) as refused:
        decode(data, UNCHANGED, max_pixels=10**6, formats=others)
    accepted = refused.value.headers["Accept"]
    assert accepted == ", ".join(f"image/{other.lower()}" for other in others)
    assert all(other in refused.value.detail.upper() for other in others)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_plugin_of_the_format_runs(kind, monkeypatch):
    opened = []
    open_image = Image.open
    monkeypatch.setattr(
        Image,
        "open",
        lambda file, formats: opened.append(formats) or open_image(file, "r", formats),
    )
    decode(picture(kind), UNCHANGED, max_pixels=10**6)
    assert opened == [(kind,)]


def test_truncated_files_are_never_padded():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def tiff(*entries: tuple[int, int, int], data: bytes) -> bytes:
    """A TIFF of 16 x 16 pixels, compressed by Deflate; entries are a tag, its type and a value."""
    offset = 512
    common = [(256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    directory = sorted([*common, *entries])
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in directory)
    head = b"II*\0" + struct.pack("<IH", 8, len(directory)) + packed + bytes(4)
    return head.ljust(offset, b"\0") + data


@pytest.mark.parametrize("tile", [(32768, 32768), (16, 2**26)], ids=str)
def test_a_tile_larger_than_its_image_counts_with_its_full_size(tile):
    data = zlib.compress(bytes(10**6))
    layout = [(322, 4, tile[0]), (323, 4, tile[1]), (324, 4, 512), (325, 4, len(data))]
    with pytest.raises(ImageTooLarge):
        decode(tiff(*layout, data=data), UNCHANGED, max_pixels=50_000_000)


def test_a_strip_of_more_rows_than_the_image_is_accepted():
    data = zlib.compress(bytes(256))
    layout = [(278, 4, 2**31 - 1), (273, 4, 512), (279, 4, len(data))]
    assert decode(tiff(*layout, data=data), UNCHANGED, max_pixels=1000).width == 16


@pytest.mark.parametrize(("bits", "compression"), [(8, 1), (4, 2)])
def test_a_run_length_compressed_bmp_is_refused(bits, compression):
    palette, runs = bytes(4 << bits), b"\x10\x01" * 16 + b"\0\x01"
    offset = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, bits, compression, len(runs), 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", offset + len(runs), 0, 0, offset) + header + palette + runs
    with pytest.raises(UnsupportedImageFormat, match="run-length"):
        decode(data, UNCHANGED, max_pixels=10**6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_invalid(kind, part):
    data = picture(kind)
    with pytest.raises(InvalidImage, match=r"header|truncated"):
        decode(data[: max(int(len(data) * part), 14)], UNCHANGED, max_pixels=10**6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_only_its_first_bytes_is_invalid(kind):
    with pytest.raises(InvalidImage):
        decode(picture(kind)[:14], UNCHANGED, max_pixels=10**6)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, which the service ignores
@pytest.mark.parametrize("kind", KINDS)
def test_random_changes_raise_only_documented_errors(kind):
    rng = np.random.default_rng(3)
    data = np.frombuffer(picture(kind, 16, 12), np.uint8)
    for _ in range(300):
        broken = data[: rng.integers(30, len(data) + 1)].copy()
        broken[rng.integers(12, min(len(broken), 200), 3)] = rng.integers(0, 256, 3)
        with suppress(InvalidImage, ImageTooLarge):
            decode(broken.tobytes(), UNCHANGED, max_pixels=10**6)


def test_an_error_detail_has_no_address_of_an_object():
    with pytest.raises(InvalidImage) as refused:
        decode(picture("PNG")[:60], UNCHANGED, max_pixels=10**6)
    assert "0x" not in refused.value.detail


def test_too_many_pixels_are_refused_from_the_header():
    with pytest.raises(InvalidImage):
        decode(
            without_pixels(100, 100), UNCHANGED, max_pixels=10_000
        )  # within the limit, so decoding fails
    with pytest.raises(ImageTooLarge) as refused:
        decode(without_pixels(100, 101), UNCHANGED, max_pixels=10_000)
    assert refused.value.limits == {"max_image_pixels": 10_000}


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_holds_for_every_format_and_is_inclusive(kind):
    data = picture(kind, 40, 30)
    assert decode(data, UNCHANGED, max_pixels=1200).width == 40
    with pytest.raises(ImageTooLarge):
        decode(data, UNCHANGED, max_pixels=1199)


def test_a_rotated_image_has_as_many_pixels():
    rotated = picture("JPEG", 40, 30, exif=exif(ORIENTED))
    assert decode(rotated, UNCHANGED, max_pixels=1200).height == 40
    with pytest.raises(ImageTooLarge):
        decode(rotated, UNCHANGED, max_pixels=1199)


def test_a_gif_counts_with_the_size_of_its_first_frame():
    data = bytearray(picture("GIF", 40, 30))
    data[6:10] = struct.pack("<HH", 1, 1)
    with pytest.raises(ImageTooLarge):
        decode(bytes(data), UNCHANGED, max_pixels=1199)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_too_large(side):
    with pytest.raises(ImageTooLarge) as refused:
        decode(without_pixels(side, side), UNCHANGED, max_pixels=50_000_000)
    assert refused.value.limits == {"max_image_pixels": 50_000_000}


def test_a_text_chunk_that_decompresses_to_megabytes_is_invalid():
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2 * 2**20)))
    data = picture("PNG")
    with pytest.raises(InvalidImage):
        decode(data[:33] + bomb + data[33:], UNCHANGED, max_pixels=10**6)


@pytest.mark.parametrize("size", [(5000, 1), (1, 5000)], ids=str)
def test_a_narrow_image_that_the_resize_would_enlarge_beyond_the_limit_is_too_large(size):
    unbounded = Preprocessing(size=None, shortest_edge=224, crop_size=(224, 224))
    with pytest.raises(ImageTooLarge, match="resized"):
        decode(without_pixels(*size), unbounded, max_pixels=10**6)
    bounded = Preprocessing(size=None, shortest_edge=224, longest_edge=500)
    assert decode(picture("PNG", *size), bounded, max_pixels=10**6).pixels.size == 500 * 3


def test_a_fixed_input_size_may_exceed_the_limit_on_pixels():
    fixed = Preprocessing(size=(224, 224))
    photo = decode(picture("PNG", 10, 10), fixed, max_pixels=100)
    assert photo.pixels.shape == (224, 224, 3)


def test_libtiff_prints_nothing(capfd):
    silence_libtiff()
    unknown = dict.fromkeys(range(60000, 60020), b"text")
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "TIFF", compression="tiff_lzw", tiffinfo=unknown)
    truncated = file.getvalue().replace(b"\x08\x00\x03\x00", b"\xff\xff\x03\x00")
    for data in (file.getvalue(), truncated):
        with suppress(InvalidImage):
            decode(data, UNCHANGED, max_pixels=10**6)
    assert capfd.readouterr() == ("", "")


def test_forbid_bombs_makes_pillow_refuse_large_images(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    with warnings.catch_warnings():
        limit_pillow_pixels()
        with pytest.raises(Image.DecompressionBombWarning):
            Image.open(BytesIO(without_pixels(10_000, 10_000)))
        limit_pillow_pixels(200_000_000)
        assert Image.open(BytesIO(without_pixels(10_000, 10_000))).width == 10_000
        with pytest.raises(ImageTooLarge):
            decode(without_pixels(20_000, 15_000), UNCHANGED, max_pixels=200_000_000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("block", [b"Exif\0\0II*", b"Exif\0\0no metadata"], ids=repr)
def test_an_image_with_meaningless_metadata_is_not_rotated(kind, block):
    assert size_of(picture(kind, 40, 30, exif=block)) == (40, 30)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, which the service ignores
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "block",
    [
        exif(struct.pack("<HHII", 0x010F, 2, 400, 9999), ORIENTED),
        exif(ORIENTED, count=9),
        exif(ORIENTED, struct.pack("<HHII", 0x8769, 4, 1, 99999)),
    ],
    ids=["data beyond the file", "fewer entries than declared", "a missing sub-block"],
)
def test_the_readable_part_of_invalid_metadata_is_applied(kind, block):
    assert size_of(picture(kind, 40, 30, exif=block)) == (30, 40)


@pytest.mark.parametrize("size", [(1, MAX_SIDE), (MAX_SIDE, 1)])
def test_the_pixels_of_a_side_are_limited(size):
    def photo(extra: int) -> Photo:
        data = png.black(*(side + extra * (side > 1) for side in size), color=0)
        return decode(data, Preprocessing(size=(8, 8)), max_pixels=50_000_000)

    assert (photo(0).width, photo(0).height) == size
    with pytest.raises(ImageTooLarge, match="side"):
        photo(1)
