"""Formats, colour modes, frames and orientations: the same pixels as transformers' loader."""

import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image

from app.core.errors import UnsupportedImageFormat
from app.imaging.decode import decode
from models.preprocessing import Preprocessing

UNCHANGED = Preprocessing(size=None)
WIDTH, HEIGHT = 13, 9
ORIENTATION = 0x0112
rng = np.random.default_rng(7)


def noise(*channels: int, dtype: type = np.uint8, high: int = 256) -> np.ndarray:
    return rng.integers(0, high, (HEIGHT, WIDTH, *channels), dtype=dtype)


def image_of(mode: str) -> Image.Image:
    """Noise in one of Pillow's modes."""
    if mode == "I;16":
        return Image.fromarray(noise(dtype=np.uint16, high=65536))
    if mode == "1":
        return Image.fromarray(noise() > 127)
    if mode == "P":
        return Image.fromarray(noise(3)).quantize(16)
    channels = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (WIDTH, HEIGHT), noise(channels).tobytes())


def file_of(image: Image.Image, kind: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16-bit RGB, which Pillow can read but not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def assert_same_as_the_reference(data: bytes, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    photo = decode(data, UNCHANGED, max_pixels=10**6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.asarray(load_image(Image.open(BytesIO(data))))
    np.testing.assert_array_equal(photo.pixels, theirs)
    assert (photo.width, photo.height) == size


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *[("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")],
        *[("JPEG", mode) for mode in ("RGB", "L", "CMYK")],
        *[("WEBP", mode) for mode in ("RGB", "RGBA", "L")],
        *[("GIF", mode) for mode in ("RGB", "L", "P")],
        *[("BMP", mode) for mode in ("RGB", "RGBA", "L", "P", "1")],
        *[("TIFF", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "LAB")],
    ],
)
def test_every_mode_of_every_format(kind, mode):
    assert_same_as_the_reference(file_of(image_of(mode), kind))


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "JPEG", "quality": 30, "subsampling": 2},
        {"kind": "JPEG", "quality": 95, "progressive": True},
        {"kind": "PNG", "interlace": True},
        {"kind": "WEBP", "lossless": True},
        {"kind": "GIF", "interlace": True},
        {"kind": "TIFF", "compression": "tiff_lzw"},
        {"kind": "TIFF", "compression": "tiff_adobe_deflate"},
        {"kind": "TIFF", "compression": "jpeg"},
        {"kind": "TIFF", "big_tiff": True},
    ],
    ids=str,
)
def test_every_compression(options):
    assert_same_as_the_reference(file_of(image_of("RGB"), **options))


@pytest.mark.parametrize("transparency", [3, bytes(range(16))], ids=["one entry", "a table"])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_of_a_palette_with_transparency_only_the_transparency_is_lost(kind, transparency):
    if kind == "GIF":
        transparency = 3  # a GIF has one transparent entry at most
    data = file_of(image_of("P"), kind, transparency=transparency)
    assert "transparency" in Image.open(BytesIO(data)).info
    assert_same_as_the_reference(data)


@pytest.mark.parametrize(("mode", "transparent"), [("L", 9), ("RGB", (1, 2, 3)), ("1", 1)])
def test_a_transparent_colour_keeps_its_colour(mode, transparent):
    assert_same_as_the_reference(file_of(image_of(mode), "PNG", transparency=transparent))


def test_16_bit_colour_keeps_its_high_bytes():
    pixels = noise(3, dtype=np.uint16, high=65536)
    assert_same_as_the_reference(png16(pixels))
    photo = decode(png16(pixels), UNCHANGED, max_pixels=10**6)
    np.testing.assert_array_equal(photo.pixels, pixels >> 8)


def test_inverted_cmyk_as_adobe_writes_it():
    data = file_of(image_of("CMYK"), "JPEG")
    assert b"Adobe" in data
    ycck = bytearray(data)
    ycck[data.index(b"Adobe") + 11] = 2  # the transform: YCCK instead of CMYK
    assert_same_as_the_reference(bytes(ycck))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_the_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = file_of(image_of("RGB"), kind, exif=exif)
    size = (HEIGHT, WIDTH) if orientation in (5, 6, 7, 8) else (WIDTH, HEIGHT)
    assert_same_as_the_reference(data, size)


@pytest.mark.parametrize("mode", ["P", "L", "RGBA"])
def test_the_orientation_is_applied_in_every_mode(mode):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert_same_as_the_reference(file_of(image_of(mode), "PNG", exif=exif), (HEIGHT, WIDTH))


def test_an_orientation_in_xmp_is_applied():
    xmp = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    assert_same_as_the_reference(file_of(image_of("RGB"), "WEBP", xmp=xmp), (HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("GIF", {"duration": 50}),
        ("WEBP", {"duration": 50, "lossless": True}),
        ("PNG", {"duration": 50}),
        ("TIFF", {}),
        ("MPO", {}),
    ],
)
def test_the_first_frame_is_decoded(kind, options):
    first, *rest = (image_of("RGB") for _ in range(3))
    data = file_of(first, kind, save_all=True, append_images=rest, **options)
    assert Image.open(BytesIO(data)).n_frames == 3
    assert_same_as_the_reference(data)


def test_a_frame_smaller_than_its_animation_keeps_its_position():
    data = bytearray(file_of(image_of("P"), "GIF"))
    data[6:10] = struct.pack("<HH", WIDTH + 4, HEIGHT + 2)  # the screen grows, the frame does not
    assert_same_as_the_reference(bytes(data), (WIDTH + 4, HEIGHT + 2))


@pytest.mark.parametrize(("size", "kept"), [(300, True), (2**20 + 1, False)])
def test_a_kept_image_loses_its_metadata_except_a_colour_profile_of_usual_size(size, kept):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    profile = bytes(size)
    data = file_of(image_of("RGB"), "JPEG", icc_profile=profile, exif=exif, comment=b"secret")
    photo = decode(data, UNCHANGED, max_pixels=10**6, keep_rgb=True)
    assert photo.rgb.info == ({"icc_profile": profile} if kept else {})


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_of_16_bit_gray_the_high_byte_is_taken(kind, orientation):
    image = image_of("I;16")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photo = decode(file_of(image, kind, exif=exif), UNCHANGED, max_pixels=10**6)
    expected = (np.asarray(image) >> 8).astype(np.uint8)
    expected = expected if orientation == 1 else np.rot90(expected, -1)
    np.testing.assert_array_equal(photo.pixels, np.stack([expected] * 3, axis=2))


def test_16_bit_gray_and_16_bit_colors_of_equal_values_are_equal():
    gray = noise(dtype=np.uint16, high=65536)
    colors = decode(png16(np.stack([gray] * 3, axis=2)), UNCHANGED, max_pixels=10**6)
    photo = decode(file_of(Image.fromarray(gray), "PNG"), UNCHANGED, max_pixels=10**6)
    np.testing.assert_array_equal(photo.pixels, colors.pixels)


def test_big_endian_16_bit_gray_is_the_same():
    gray = noise(dtype=np.uint16, high=65536)
    image = Image.frombytes("I;16B", (WIDTH, HEIGHT), gray.astype(">u2").tobytes())
    photo = decode(file_of(image, "TIFF"), UNCHANGED, max_pixels=10**6)
    np.testing.assert_array_equal(photo.pixels[..., 0], gray >> 8)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_gray_of_32_bits_is_refused_with_advice(dtype):
    data = file_of(Image.fromarray(noise().astype(dtype)), "TIFF")
    with pytest.raises(UnsupportedImageFormat, match=r"32-bit gray.*convert the image to 8 "):
        decode(data, UNCHANGED, max_pixels=10**6)
