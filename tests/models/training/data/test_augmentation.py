import numpy as np
import pytest
from PIL import Image

from models.preprocessing import NEAREST
from models.training.data.augmentation import Augmentation, crop
from models.training.data.examples import Example


def example(width: int = 16, height: int = 12) -> Example:
    """Red is the label of each pixel, so that one may be held against the other."""
    truth = np.arange(width * height).reshape(height, width).astype(np.uint8)
    image = np.stack([truth, truth // 2, 0 * truth], axis=2)
    return Example(Image.fromarray(image), truth)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_any_the_example_is_brought_to_size_by_nearest_pixels():
    image, truth = Augmentation()(example(), rng(), (6, 8), NEAREST)
    assert truth.shape == (6, 8)
    assert np.array_equal(truth, example().truth[1::2, 1::2])
    assert np.array_equal(np.asarray(image)[..., 0], truth)


@pytest.mark.parametrize("seed", range(8))
def test_picture_and_label_map_stay_together(seed):
    some = Augmentation(flip=0.5, smallest_crop=0.3)
    image, truth = some(example(), rng(seed), (10, 14), NEAREST)
    assert np.array_equal(np.asarray(image)[..., 0], truth)


def test_a_flip_mirrors_left_to_right():
    _, truth = Augmentation(flip=1.0)(example(), rng(), (12, 16), NEAREST)
    assert np.array_equal(truth, example().truth[:, ::-1])


def test_jitters_change_the_picture_and_not_its_truth():
    some = Augmentation(brightness=0.3, contrast=0.3, saturation=0.3)
    image, truth = some(example(), rng(), (12, 16), NEAREST)
    assert np.array_equal(truth, example().truth)
    assert not np.array_equal(np.asarray(image), np.asarray(example().image))


def test_a_label_stays_what_it_is():
    some = Augmentation(flip=1.0, smallest_crop=0.5, contrast=0.5)
    assert some(Example(example().image, 3), rng(), (4, 4), NEAREST).truth == 3


def test_crops_have_from_the_smallest_area_to_all_of_it_and_lie_within():
    for seed in range(50):
        left, top, right, bottom = crop(rng(seed), 30, 40, 0.5)
        assert 0 <= left < right <= 40
        assert 0 <= top < bottom <= 30
        assert (right - left) * (bottom - top) >= 0.4 * 30 * 40
    assert crop(rng(), 30, 40, 1.0) == (0, 0, 40, 30)
