import numpy as np
import pytest
from PIL import Image

from models.preprocessing import NEAREST, Preprocessing, Reduction, fit, reduce, to_rgb


def gradient(width: int, height: int) -> Image.Image:
    """Return an image whose red increases to the right, and green downwards."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([across, down, 0 * down], axis=2).astype(np.uint8))


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was rotated by 90 degrees
    gradient(8, 4).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert to_rgb(image).size == (4, 8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_every_image_mode_is_converted_to_rgb(mode):
    assert to_rgb(Image.new(mode, (3, 2))).mode == "RGB"


def test_an_image_is_stretched_to_the_size():
    fitted = fit(gradient(8, 4), Preprocessing(size=(2, 2), resample=NEAREST))
    assert np.asarray(fitted)[..., 0].tolist() == [[2, 6], [2, 6]]


def test_the_crop_is_centred_and_black_outside_the_image():
    preprocessing = Preprocessing(size=None, shortest_edge=4, crop_size=(4, 10))
    fitted = np.asarray(fit(gradient(8, 4), preprocessing))
    assert fitted.shape == (4, 10, 3)
    assert (fitted[:, 1:9] == np.asarray(gradient(8, 4))).all()
    assert (fitted[:, [0, 9]] == 0).all()


@pytest.mark.parametrize(
    ("orientation", "whole", "decoded"), [(1, (40, 80), (10, 20)), (6, (80, 40), (20, 40))]
)
def test_a_jpeg_is_reduced_to_at_least_twice_the_resized_size(
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


def test_only_large_jpegs_are_reduced(tmp_path):
    gradient(80, 40).save(tmp_path / "photo.jpg")
    gradient(80, 40).save(tmp_path / "photo.png")
    for name, size in (("photo.jpg", (11, 12)), ("photo.jpg", None), ("photo.png", (5, 5))):
        with Image.open(tmp_path / name) as image:
            assert reduce(image, Preprocessing(size=size)) is None
            assert to_rgb(image).size == (80, 40)


def test_a_reduced_image_is_resized_like_the_full_size_image():
    preprocessing, box = Preprocessing(size=None, shortest_edge=6), (0, 0, 17, 13)
    assert fit(gradient(17, 13), preprocessing).size == (7, 6)
    assert fit(gradient(17, 13), preprocessing, Reduction((100, 150), box)).size == (9, 6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_partly_covered_edge_column_is_weighted_by_its_coverage(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient(121, 85).save(tmp_path / "photo.jpg", exif=exif, quality=95, subsampling=0)
    preprocessing = Preprocessing(size=(7, 7))
    with Image.open(tmp_path / "photo.jpg") as image:
        exact = np.asarray(fit(to_rgb(image), preprocessing)).astype(int)
    with Image.open(tmp_path / "photo.jpg") as image:
        reduction = reduce(image, preprocessing)
        scaled = np.asarray(fit(to_rgb(image), preprocessing, reduction))
    assert image.size != (121, 85)
    assert np.abs(scaled - exact).max() <= 1  # resizing the whole reduced image differs by more
