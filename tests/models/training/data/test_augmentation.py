import numpy as np
import pytest
from PIL import Image

from models.preprocessing import NEAREST
from models.training.data.augmentation import Augmentation, crop
from models.training.data.examples import Example


def example(width: int = 16, height: int = 12) -> Example:
    """Return an example whose red channel equals the label map."""
    truth = np.arange(width * height).reshape(height, width).astype(np.uint8)
    image = np.stack([truth, truth // 2, 0 * truth], axis=2)
    return Example(Image.fromarray(image), truth)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_augmentation_the_example_is_only_resized():
    image, truth = Augmentation()(example(), rng(), (6, 8), NEAREST)
    assert truth.shape == (6, 8)
    assert np.array_equal(truth, example().truth[1::2, 1::2])
    assert np.array_equal(np.asarray(image)[..., 0], truth)


@pytest.mark.parametrize("seed", range(8))
def test_image_and_label_map_are_changed_alike(seed):
    augmentation = Augmentation(flip=0.5, smallest_crop=0.3)
    image, truth = augmentation(example(), rng(seed), (10, 14), NEAREST)
    assert np.array_equal(np.asarray(image)[..., 0], truth)


def test_a_flip_mirrors_left_to_right():
    _, truth = Augmentation(flip=1.0)(example(), rng(), (12, 16), NEAREST)
    assert np.array_equal(truth, example().truth[:, ::-1])


def test_jitters_change_the_image_only():
    augmentation = Augmentation(brightness=0.3, contrast=0.3, saturation=0.3)
    image, truth = augmentation(example(), rng(), (12, 16), NEAREST)
    assert np.array_equal(truth, example().truth)
    assert not np.array_equal(np.asarray(image), np.asarray(example().image))


def test_a_label_is_unchanged():
    augmentation = Augmentation(flip=1.0, smallest_crop=0.5, contrast=0.5)
    assert augmentation(Example(example().image, 3), rng(), (4, 4), NEAREST).truth == 3


def test_crops_are_inside_the_image_and_large_enough():
    for seed in range(50):
        left, top, right, bottom = crop(rng(seed), 30, 40, 0.5)
        assert 0 <= left < right <= 40
        assert 0 <= top < bottom <= 30
        assert (right - left) * (bottom - top) >= 0.4 * 30 * 40
    assert crop(rng(), 30, 40, 1.0) == (0, 0, 40, 30)
