import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.training.scenes.layout import LEAST_VISIBLE, MARGIN
from models.training.scenes.scene import LABELS, SIZE, Scene, draw_scene
from models.training.scenes.shapes import KINDS

SEED = 31


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Enough scenes for statistics."""
    return [draw_scene(SEED, index) for index in range(1_000)]


def test_the_same_seed_and_index_give_the_same_scene():
    one, same = draw_scene(3, 14), draw_scene(3, 14)
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.label_map, same.label_map)
    assert one.largest == same.largest


@pytest.mark.parametrize(("seed", "index"), [(3, 15), (4, 14)])
def test_another_seed_or_index_gives_another_scene(seed, index):
    assert not np.array_equal(draw_scene(3, 14).image, draw_scene(seed, index).image)


def test_image_and_label_map_have_the_same_size(scenes):
    for scene in scenes[:20]:
        assert scene.image.shape == (SIZE, SIZE, 3)
        assert scene.image.dtype == np.uint8
        assert scene.label_map.shape == (SIZE, SIZE)
        assert scene.label_map.max() < len(LABELS)


def test_largest_kind_covers_clearly_more_than_any_other(scenes):
    for scene in scenes:
        by_kind = [scene.areas()[kind] for kind in KINDS]
        first = by_kind.pop(scene.largest)
        assert first >= MARGIN * max(by_kind)
        assert sum(scene.areas().values()) == SIZE * SIZE


def test_scenes_have_one_to_four_shapes(scenes):
    counts = np.bincount([scene.shapes for scene in scenes], minlength=5)
    assert counts[0] == 0
    assert all(counts[1:] > 0)
    assert len(counts) == 5


def test_at_least_three_scenes_in_ten_are_occluded(scenes):
    assert np.mean([scene.occluded for scene in scenes]) >= 0.3


def test_every_shape_is_visible_enough(scenes):
    assert max(scene.hidden for scene in scenes) <= 1 - LEAST_VISIBLE


def test_every_kind_is_the_largest_about_equally_often(scenes):
    counts = np.bincount([scene.largest for scene in scenes], minlength=len(KINDS))
    assert counts.min() / len(scenes) > 0.12
    assert counts.max() / len(scenes) < 0.21


def test_shapes_cover_a_part_of_each_scene(scenes):
    covered = np.array([(scene.label_map > 0).mean() for scene in scenes])
    assert 0.15 < covered.mean() < 0.5
    assert covered.min() > 0.01


def colors(image: np.ndarray) -> np.ndarray:
    """Return a histogram of 5 x 5 x 5 colors, and mean and deviation of each channel."""
    bins = (image.astype(np.int64) * 5 // 256) @ (25, 5, 1)
    histogram = np.bincount(bins.ravel(), minlength=125) / bins.size
    return np.concatenate([np.sqrt(histogram), image.mean((0, 1)) / 255, image.std((0, 1)) / 255])


@pytest.mark.slow
def test_the_largest_kind_cannot_be_learned_from_colors_alone(scenes):
    """A small network on color statistics stays far below the quality of the classifier."""
    drawn = scenes + [draw_scene(SEED, index) for index in range(len(scenes), 3_000)]
    held_out = len(drawn) // 5
    x = torch.tensor(np.stack([colors(scene.image) for scene in drawn]), dtype=torch.float32)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    y = torch.tensor([scene.largest for scene in drawn])
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, len(KINDS))
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    accuracies = []
    for _ in range(150):
        loss = cross_entropy(model(x[held_out:]), y[held_out:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        predicted = model(x[:held_out]).argmax(1)
        accuracies.append(float((predicted == y[:held_out]).float().mean()))
    assert max(accuracies) < 0.4
