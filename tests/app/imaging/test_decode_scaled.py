"""JPEGs decoded at a reduced scale: which, how far, and that nothing else changes."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from app.core.errors import ImageTooLarge, InvalidImage
from app.imaging.decode import Photo, decode
from models.preprocessing import Preprocessing

ORIENTATION = 0x0112
ROTATED = (5, 6, 7, 8)
LIMIT = 10**7


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Waves and an edge, different along both axes and in each corner."""
    down, across = np.mgrid[0:height, 0:width]
    red = 128 + 100 * np.sin(across / width * 9)
    green = 128 + 100 * np.cos(down / height * 5)
    blue = np.where(across * height > 2 * down * width, 220, 30)
    image = Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8))
    return image.convert(mode)


def jpeg(image: Image.Image, orientation: int = 1, **options) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = BytesIO()
    image.save(file, options.pop("kind", "JPEG"), quality=95, exif=exif, **options)
    return file.getvalue()


class Loads:
    """Records the sizes that Pillow decodes to."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []


@pytest.fixture
def loads(monkeypatch):
    recorded = Loads()
    load = JpegImagePlugin.JpegImageFile.load

    def record(image):
        if image.tile:
            recorded.sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", record)
    return recorded


def both(data: bytes, preprocessing: Preprocessing, **options) -> tuple[Photo, Photo]:
    exact = decode(data, preprocessing, max_pixels=LIMIT)
    return exact, decode(data, preprocessing, max_pixels=LIMIT, scaled=True, **options)


def assert_alike(exact: Photo, scaled: Photo) -> None:
    assert (scaled.width, scaled.height) == (exact.width, exact.height)
    assert scaled.pixels.shape == exact.pixels.shape
    difference = np.abs(scaled.pixels.astype(int) - exact.pixels)
    assert difference.mean() < 2
    assert np.percentile(difference, 99) < 25  # larger only along the edge


@pytest.mark.parametrize(
    ("side", "decoded"),
    [(63, 63), (64, 32), (127, 64), (128, 32), (255, 64), (256, 32), (600, 75), (601, 76)],
)
def test_an_axis_is_reduced_as_far_as_twice_the_input_size_allows(loads, side, decoded):
    square = Preprocessing(size=(16, 16))
    decode(jpeg(picture(side, side)), square, max_pixels=LIMIT, scaled=True)
    assert loads.sizes == [(decoded, decoded)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("width", [640, 641, 647])
def test_every_orientation_gives_a_similar_image(loads, orientation, width):
    stored = picture(width, 320)
    preprocessing = Preprocessing(size=(40, 80))
    exact, scaled = both(jpeg(stored, orientation), preprocessing)
    assert_alike(exact, scaled)
    rotated = orientation in ROTATED
    assert (scaled.width, scaled.height) == ((320, width) if rotated else (width, 320))
    assert loads.sizes[1] == ((-(-width // 2), 160) if rotated else (-(-width // 4), 80))


@pytest.mark.parametrize("size", [(900, 500), (500, 900), (901, 503), (507, 899)], ids=str)
@pytest.mark.parametrize("longest", [None, 50])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_shortest_edge_and_the_crop_are_those_of_the_whole_image(size, longest, orientation):
    preprocessing = Preprocessing(
        size=None, shortest_edge=32, longest_edge=longest, crop_size=(28, 28), resample=3
    )
    assert_alike(*both(jpeg(picture(*size), orientation), preprocessing))
    uncropped = Preprocessing(size=None, shortest_edge=29, longest_edge=longest)
    assert_alike(*both(jpeg(picture(*size), orientation), uncropped))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_every_kind_of_jpeg_can_be_reduced(loads, mode, options):
    data = jpeg(picture(400, 300, mode), **options)
    assert_alike(*both(data, Preprocessing(size=(30, 30))))
    assert loads.sizes == [(400, 300), (100, 75)]


def test_the_first_of_several_images_in_a_file_is_reduced(loads):
    data = jpeg(picture(400, 300), kind="MPO", save_all=True, append_images=[picture(40, 30)])
    assert_alike(*both(data, Preprocessing(size=(30, 30))))
    assert loads.sizes[1] == (100, 75)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {"compression": "jpeg"}), ("GIF", {})],
)
def test_other_formats_are_decoded_exactly(kind, options):
    file = BytesIO()
    picture(400, 300).save(file, kind, **options)
    exact, scaled = both(file.getvalue(), Preprocessing(size=(30, 30)))
    np.testing.assert_array_equal(scaled.pixels, exact.pixels)


@pytest.mark.parametrize(
    "preprocessing",
    [Preprocessing(size=None), Preprocessing(size=(151, 10)), Preprocessing(size=(999, 999))],
    ids=["no resize", "one axis is not large enough", "enlarged"],
)
def test_an_image_less_than_four_times_the_input_size_is_decoded_exactly(preprocessing):
    exact, scaled = both(jpeg(picture(400, 300)), preprocessing)
    np.testing.assert_array_equal(scaled.pixels, exact.pixels)


def test_an_image_that_is_kept_is_decoded_exactly():
    preprocessing = Preprocessing(size=(30, 30))
    exact, kept = both(jpeg(picture(400, 300)), preprocessing, keep_rgb=True)
    np.testing.assert_array_equal(kept.pixels, exact.pixels)
    assert kept.rgb.size == (400, 300)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, which the service ignores
@pytest.mark.parametrize("block", [b"Exif\0\0II*", b"Exif\0\0no metadata"], ids=repr)
def test_invalid_metadata_does_not_rotate(block):
    file = BytesIO()
    picture(400, 200).save(file, "JPEG", quality=95, exif=block)
    assert_alike(*both(file.getvalue(), Preprocessing(size=(20, 20))))


def test_a_truncated_file_is_invalid():
    data = jpeg(picture(400, 300))
    with pytest.raises(InvalidImage):
        decode(data[: len(data) // 2], Preprocessing(size=(30, 30)), max_pixels=LIMIT, scaled=True)


def test_the_limit_is_on_the_whole_image():
    with pytest.raises(ImageTooLarge):
        decode(jpeg(picture(400, 300)), Preprocessing(), max_pixels=400 * 300 - 1, scaled=True)
