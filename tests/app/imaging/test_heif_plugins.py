"""AVIF and HEIC: off by default, and decoded like the other formats where they are enabled."""

import importlib.util
from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import AvifImagePlugin, Image, features

from app.core.errors import UnsupportedImageFormat
from app.imaging.decode import FORMATS, PLUGINS, Photo, decode, sniff
from app.imaging.heif_plugins import check_formats, enable_formats
from models.preprocessing import Preprocessing
from tests.hostile import heif
from tests.hostile.heif import heic

UNCHANGED = Preprocessing(size=None)
ENABLED = FORMATS | {"AVIF", "HEIC"}
RED, BLUE, BLACK = (250, 10, 10), (10, 10, 250), (0, 0, 0)


@pytest.fixture(scope="module", autouse=True)
def enabled():
    enable_formats(("avif", "heic"))


def quarters(mode: str = "RGB") -> Image.Image:
    """A picture of 64 x 48 pixels: red at the upper left, blue at the lower right, else black."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32], pixels[24:, 32:] = RED, BLUE
    return Image.fromarray(pixels).convert(mode)


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    if kind == "HEIC":
        return heic(image, quality=90, **options)
    file = BytesIO()
    image.save(file, "AVIF", quality=90, **options)
    return file.getvalue()


def decoded(data: bytes) -> Photo:
    return decode(data, UNCHANGED, max_pixels=10**6, formats=ENABLED)


def corners(data: bytes) -> list[str]:
    """The colors of the corners, clockwise from the upper left."""
    pixels = decoded(data).pixels.astype(int)
    found = [pixels[4, 4], pixels[4, -5], pixels[-5, -5], pixels[-5, 4]]
    return ["red" if each[0] > 150 else "blue" if each[2] > 150 else "black" for each in found]


def with_exif(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = quarters()
    file = BytesIO()  # both write the orientation of the EXIF data as a transform of the image
    image.save(file, PLUGINS.get(kind, kind), quality=90, exif=exif.tobytes())
    return file.getvalue()


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_a_format_that_is_not_enabled_is_refused(kind):
    data = encoded(kind, quarters())
    assert sniff(data) == kind
    with pytest.raises(UnsupportedImageFormat, match="JPEG, PNG"):
        decode(data, UNCHANGED, max_pixels=10**6)


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_color_alpha_and_gray(kind, mode):
    photo = decoded(encoded(kind, quarters(mode)))
    assert (photo.width, photo.height) == (64, 48)
    expected = np.asarray(quarters(mode).convert("RGB")).astype(int)
    assert np.abs(photo.pixels.astype(int) - expected)[4:-4, 4:-4].mean() < 8


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, ["red", "black", "blue", "black"]),
        (2, ["black", "red", "black", "blue"]),
        (3, ["blue", "black", "red", "black"]),
        (6, ["black", "red", "black", "blue"]),
        (8, ["black", "blue", "black", "red"]),
    ],
)
def test_the_orientation_is_applied_once(kind, orientation, seen):
    data = with_exif(kind, orientation)
    photo = decoded(data)
    assert (photo.width, photo.height) == ((48, 64) if orientation >= 5 else (64, 48))
    assert corners(data) == seen


@pytest.mark.parametrize("bits", ["RGB;16", "L;16"])
def test_a_heic_of_ten_bits_keeps_its_range(bits):
    pixels = np.linspace(0, 65535, 48 * 64).astype("<u2").reshape(48, 64)
    data = np.repeat(pixels[..., None], 3, 2) if bits.startswith("RGB") else pixels
    file = BytesIO()
    pillow_heif.from_bytes(bits, (64, 48), data.tobytes()).save(file, quality=95)
    found = decoded(file.getvalue()).pixels.astype(int)
    assert np.abs(found[..., 0] - (pixels >> 8)).mean() < 6


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_of_several_images_the_primary_one_is_decoded(kind):
    colors = [Image.new("RGB", (64, 48), color) for color in ("red", "lime", "blue")]
    if kind == "HEIC":
        file = BytesIO()
        several = pillow_heif.from_pillow(colors[0])
        for image in colors[1:]:
            several.add_from_pillow(image)
        several.save(file, quality=90, primary_index=2)
        assert decoded(file.getvalue()).pixels[9, 9, 2] > 200
    else:
        data = encoded(kind, colors[0], save_all=True, append_images=colors[1:])
        assert data[8:12] == b"avis"
        assert decoded(data).pixels[9, 9, 0] > 200


def test_a_file_may_have_a_general_main_brand():
    for kind in ("AVIF", "HEIC"):
        data = heif.plain(kind)
        size = int.from_bytes(data[:4])
        brands = data[16:size] if kind.lower().encode() in data[16:size] else data[8:12]
        ftyp = heif.box(b"ftyp", b"mif1", bytes(4), brands.ljust(size - 16, b" "))
        assert sniff(ftyp + data[size:]) == kind
        assert decoded(ftyp + data[size:]).width == 64


def test_a_decoder_uses_the_thread_that_calls_it():
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1
    assert pillow_heif.options.DECODE_THREADS == 1
    assert not pillow_heif.options.THUMBNAILS


def test_a_missing_decoder_is_an_error_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("app.imaging.heif_plugins.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'patchserve\[heif\]'"):
        check_formats(("jpeg", "heic"))
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(ValueError, match="cannot decode avif"):
        enable_formats(("avif",))
    check_formats(("jpeg", "png"))
    assert importlib.util.find_spec("pillow_heif") is not None
