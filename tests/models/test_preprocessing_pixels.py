import numpy as np
import pytest
from PIL import Image

from models.preprocessing import NEAREST, Preprocessing, Reduction, fit, reduce, to_rgb


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([across, down, 0 * down], axis=2).astype(np.uint8))


def test_picture_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a right angle
    gradient(8, 4).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert to_rgb(image).size == (4, 8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode):
    assert to_rgb(Image.new(mode, (3, 2))).mode == "RGB"


def test_picture_is_stretched_to_the_size():
    fitted = fit(gradient(8, 4), Preprocessing(size=(2, 2), resample=NEAREST))
    assert np.asarray(fitted)[..., 0].tolist() == [[2, 6], [2, 6]]


def test_crop_takes_the_middle_and_is_black_beyond_the_picture():
    asked = Preprocessing(size=None, shortest_edge=4, crop_size=(4, 10))
    fitted = np.asarray(fit(gradient(8, 4), asked))
    assert fitted.shape == (4, 10, 3)
    assert (fitted[:, 1:9] == np.asarray(gradient(8, 4))).all()
    assert (fitted[:, [0, 9]] == 0).all()


@pytest.mark.parametrize(
    ("orientation", "whole", "decoded"), [(1, (40, 80), (10, 20)), (6, (80, 40), (20, 40))]
)
def test_a_jpeg_is_reduced_to_no_less_than_twice_what_it_is_resized_to(
    tmp_path, orientation, whole, decoded
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient(80, 40).save(tmp_path / "photo.jpg", exif=exif)
    with Image.open(tmp_path / "photo.jpg") as image:
        reduction = reduce(image, Preprocessing(size=(5, 10)))
        assert reduction.whole == whole
        assert image.size == decoded[::-1]
        assert to_rgb(image).size == (decoded if orientation == 6 else decoded[::-1])


def test_what_is_not_far_too_large_is_not_reduced(tmp_path):
    gradient(80, 40).save(tmp_path / "photo.jpg")
    gradient(80, 40).save(tmp_path / "photo.png")
    for name, size in (("photo.jpg", (11, 12)), ("photo.jpg", None), ("photo.png", (5, 5))):
        with Image.open(tmp_path / name) as image:
            assert reduce(image, Preprocessing(size=size)) is None
            assert to_rgb(image).size == (80, 40)


def test_a_reduced_picture_is_resized_as_the_whole_one_would_be():
    asked, everything = Preprocessing(size=None, shortest_edge=6), (0, 0, 17, 13)
    assert fit(gradient(17, 13), asked).size == (7, 6)
    assert fit(gradient(17, 13), asked, Reduction((100, 150), everything)).size == (9, 6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_column_that_lies_half_beyond_the_picture_counts_for_half(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient(121, 85).save(tmp_path / "photo.jpg", exif=exif, quality=95, subsampling=0)
    asked = Preprocessing(size=(7, 7))
    with Image.open(tmp_path / "photo.jpg") as image:
        exact = np.asarray(fit(to_rgb(image), asked)).astype(int)
    with Image.open(tmp_path / "photo.jpg") as image:
        reduction = reduce(image, asked)
        scaled = np.asarray(fit(to_rgb(image), asked, reduction))
    assert image.size != (121, 85)
    assert np.abs(scaled - exact).max() <= 1  # stretching what is beyond in would shift it by more
