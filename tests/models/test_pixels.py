import numpy as np
import pytest
from PIL import Image

from models.pixels import fit, to_rgb
from models.preprocessing import NEAREST, Preprocessing


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
