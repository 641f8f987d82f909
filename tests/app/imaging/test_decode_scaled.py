"""JPEGs at a reduced scale: what is reduced, how far, and that nothing else changes."""

from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from app.core.errors import ImageTooLarge, InvalidImage
from app.imaging.decode import Photo, decode
from app.imaging.pixel_budget import WeightedSemaphore
from models.preprocessing import Preprocessing

ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)
LIMIT = 10**7


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Waves and an edge, different along the axes and at each corner."""
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
    """The sizes that Pillow decodes to."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    @contextmanager
    def hold(self, pixels: int):
        self.pixels = pixels
        yield


@pytest.fixture
def loads(monkeypatch):
    seen = Loads()
    load = JpegImagePlugin.JpegImageFile.load

    def noting(image):
        if image.tile:
            seen.sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", noting)
    return seen


def both(data: bytes, preprocessing: Preprocessing, **options) -> tuple[Photo, Photo]:
    exact = decode(data, preprocessing, max_pixels=LIMIT)
    return exact, decode(data, preprocessing, max_pixels=LIMIT, scaled=True, **options)


def assert_alike(exact: Photo, scaled: Photo) -> None:
    assert (scaled.width, scaled.height) == (exact.width, exact.height)
    assert scaled.pixels.shape == exact.pixels.shape
    difference = np.abs(scaled.pixels.astype(int) - exact.pixels)
    assert difference.mean() < 2
    assert np.percentile(difference, 99) < 25  # where the edge runs, at most


@pytest.mark.parametrize(
    ("side", "decoded"),
    [(63, 63), (64, 32), (127, 64), (128, 32), (255, 64), (256, 32), (600, 75), (601, 76)],
)
def test_an_axis_keeps_twice_the_input_and_loses_no_more_than_it_can(loads, side, decoded):
    square = Preprocessing(size=(16, 16))
    decode(jpeg(picture(side, side)), square, max_pixels=LIMIT, scaled=True, hold=loads.hold)
    assert loads.sizes == [(decoded, decoded)]
    assert loads.pixels == decoded**2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("width", [640, 641, 647])
def test_every_orientation_gives_the_same_picture(loads, orientation, width):
    stored = picture(width, 320)
    asked = Preprocessing(size=(40, 80))
    exact, scaled = both(jpeg(stored, orientation), asked)
    assert_alike(exact, scaled)
    turned = orientation in TURNED
    assert (scaled.width, scaled.height) == ((320, width) if turned else (width, 320))
    assert loads.sizes[1] == ((-(-width // 2), 160) if turned else (-(-width // 4), 80))


@pytest.mark.parametrize("size", [(900, 500), (500, 900), (901, 503), (507, 899)], ids=str)
@pytest.mark.parametrize("longest", [None, 50])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_shortest_edge_and_the_crop_are_those_of_the_whole_picture(size, longest, orientation):
    asked = Preprocessing(
        size=None, shortest_edge=32, longest_edge=longest, crop_size=(28, 28), resample=3
    )
    assert_alike(*both(jpeg(picture(*size), orientation), asked))
    uncropped = Preprocessing(size=None, shortest_edge=29, longest_edge=longest)
    assert_alike(*both(jpeg(picture(*size), orientation), uncropped))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_every_kind_of_jpeg_can_be_reduced(loads, mode, options):
    data = jpeg(picture(400, 300, mode), **options)
    assert_alike(*both(data, Preprocessing(size=(30, 30))))
    assert loads.sizes == [(400, 300), (100, 75)]


def test_the_first_of_several_pictures_in_one_file_is_reduced(loads):
    data = jpeg(picture(400, 300), kind="MPO", save_all=True, append_images=[picture(40, 30)])
    assert_alike(*both(data, Preprocessing(size=(30, 30))))
    assert loads.sizes[1] == (100, 75)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {"compression": "jpeg"}), ("GIF", {})],
)
def test_what_is_no_jpeg_is_decoded_exactly(kind, options):
    file = BytesIO()
    picture(400, 300).save(file, kind, **options)
    exact, scaled = both(file.getvalue(), Preprocessing(size=(30, 30)))
    np.testing.assert_array_equal(scaled.pixels, exact.pixels)


@pytest.mark.parametrize(
    "asked",
    [Preprocessing(size=None), Preprocessing(size=(151, 10)), Preprocessing(size=(999, 999))],
    ids=["no resize", "one axis is needed", "enlarged"],
)
def test_a_picture_that_is_not_far_larger_is_decoded_exactly(asked):
    exact, scaled = both(jpeg(picture(400, 300)), asked)
    np.testing.assert_array_equal(scaled.pixels, exact.pixels)


def test_a_whole_image_is_kept_exactly():
    asked = Preprocessing(size=(30, 30))
    exact, kept = both(jpeg(picture(400, 300)), asked, keep_rgb=True)
    np.testing.assert_array_equal(kept.pixels, exact.pixels)
    assert kept.rgb.size == (400, 300)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, which a process does not hear
@pytest.mark.parametrize("block", [b"Exif\0\0II*", b"Exif\0\0nothing of the kind"], ids=repr)
def test_broken_metadata_turns_nothing(block):
    file = BytesIO()
    picture(400, 200).save(file, "JPEG", quality=95, exif=block)
    assert_alike(*both(file.getvalue(), Preprocessing(size=(20, 20))))


def test_a_truncated_file_is_invalid():
    data = jpeg(picture(400, 300))
    with pytest.raises(InvalidImage):
        decode(data[: len(data) // 2], Preprocessing(size=(30, 30)), max_pixels=LIMIT, scaled=True)


def test_the_limit_is_on_the_whole_picture():
    with pytest.raises(ImageTooLarge):
        decode(jpeg(picture(400, 300)), Preprocessing(), max_pixels=400 * 300 - 1, scaled=True)


@pytest.mark.parametrize(
    ("options", "pixels"),
    [({}, 400 * 300), ({"scaled": True}, 100 * 75), ({"keep_rgb": True}, 400 * 300)],
)
def test_the_pixels_that_are_decoded_are_held(options, pixels):
    seen = Loads()
    asked = Preprocessing(size=(30, 30))
    decode(jpeg(picture(400, 300)), asked, max_pixels=LIMIT, hold=seen.hold, **options)
    assert seen.pixels == pixels


def test_a_progressive_jpeg_holds_all_of_its_coefficients():
    seen = Loads()
    data = jpeg(picture(400, 300), progressive=True)
    decode(data, Preprocessing(size=(30, 30)), max_pixels=LIMIT, scaled=True, hold=seen.hold)
    assert seen.pixels == 400 * 300


def test_what_is_refused_or_broken_leaves_nothing_held():
    budget, data = WeightedSemaphore(10**6), jpeg(picture(400, 300))
    with pytest.raises(ImageTooLarge):
        decode(data, Preprocessing(), max_pixels=1, hold=budget.hold)
    with pytest.raises(InvalidImage):
        decode(data[: len(data) // 2], Preprocessing(), max_pixels=LIMIT, hold=budget.hold)
    assert budget.held == 0
