from dataclasses import replace

import numpy as np
import pytest
import torch

from models.training.data.curriculum import Curriculum, CurriculumFeed, Pool, draw_pool
from models.training.data.examples import Batch
from models.training.scenes.scene import SIZE, draw_scene

SEED, COUNT, SIDE = 8, 24, 64


@pytest.fixture(scope="module")
def pool() -> Pool:
    return draw_pool(SEED, COUNT, SIDE)


@pytest.fixture
def feed(pool) -> CurriculumFeed:
    """Six steps in passes of three batches, none of them on single shapes only."""
    return CurriculumFeed(pool, Curriculum(COUNT, 6, 0.0), "classify", batch_size=8, seed=4)


def test_pool_holds_the_scenes_of_its_seed_at_the_requested_size(pool):
    assert pool.images.shape == (COUNT, SIDE, SIDE, 3)
    assert pool.label_maps.shape == (COUNT, SIZE, SIZE)
    scene = draw_scene(SEED, 5)
    assert np.array_equal(pool.label_maps[5].numpy(), scene.label_map)
    assert (int(pool.largest[5]), int(pool.shapes[5])) == (scene.largest, scene.shapes)


def test_pool_keeps_the_pixels_of_images_at_their_own_size():
    assert np.array_equal(draw_pool(SEED, 1, SIZE).images[0].numpy(), draw_scene(SEED, 0).image)


def test_drawing_reports_its_progress():
    reports = []
    draw_pool(SEED, 3, SIDE, lambda *progress: reports.append(progress))
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_scenes_are_selected_by_their_number_of_shapes(pool):
    single = pool.single().tolist()
    assert 0 < len(single) < COUNT
    assert set(pool.shapes[single].tolist()) == {1}
    assert len(pool.crowded(1.0)) == COUNT
    assert not set(single) & set(pool.crowded(0.0).tolist())
    assert 0 < len(set(single) & set(pool.crowded(0.5).tolist())) < len(single)


def test_each_pass_uses_every_scene_once(feed, pool):
    batches = list(feed.epoch(0))
    assert feed.steps == len(batches) == 6
    for third in (batches[:3], batches[3:]):
        used = torch.cat([batch.truth for batch in third])
        assert sorted(used.tolist()) == sorted(pool.largest.tolist())


def test_the_first_steps_use_only_scenes_with_a_single_shape(feed, pool):
    """The images hold the number of shapes in place of pixels."""
    images = pool.shapes.byte()[:, None, None, None].expand(-1, 4, 4, 3)
    staged = replace(
        feed,
        pool=replace(pool, images=images),
        batch_size=2,
        curriculum=Curriculum(COUNT, 4, 0.5, singles=0.0),
    )
    shapes = [batch.images[:, 0, 0, 0] for batch in staged.epoch(0)]
    assert all((some == 1).all() for some in shapes[:2])
    assert all((some > 1).all() for some in shapes[2:])


def test_an_epoch_depends_on_the_seed_only_and_can_start_in_the_middle(feed):
    whole, rest = list(feed.epoch(0)), list(feed.epoch(0, start=4))
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[4:], rest, strict=True))
    other = next(replace(feed, seed=5).epoch(0))
    assert not torch.equal(whole[0].images, other.images)


def test_segmenters_learn_the_label_maps(feed):
    batch = next(replace(feed, task="segment").epoch(0))
    assert (batch.truth.shape, batch.label_maps) == ((8, SIZE, SIZE), None)


def test_augmentation_changes_images_and_label_maps_alike_and_keeps_areas(pool, feed):
    """An image that equals its label map must equal it afterwards."""
    gray = pool.label_maps[..., None].expand(-1, -1, -1, 3)
    same = replace(
        feed,
        pool=Pool(gray[:6], pool.label_maps[:6], pool.largest[:6], pool.shapes[:6]),
        curriculum=Curriculum(6, 40, 0.0),
        batch_size=6,
    )
    variants = set()
    for batch in same.epoch(0):
        assert torch.equal(batch.images[..., 0], batch.label_maps)
        first = batch.label_maps[first_scene(batch, pool)]
        variants.add(first.numpy().tobytes())
    assert len(variants) == 8


def first_scene(batch: Batch, pool: Pool) -> int:
    """Return the position of the pool's first scene in the batch, by its number of pixels."""
    areas = [label_map.flatten().bincount(minlength=7) for label_map in batch.label_maps]
    wanted = pool.label_maps[0].flatten().bincount(minlength=7)
    (found,) = [index for index, area in enumerate(areas) if torch.equal(area, wanted)]
    return found


def test_a_pool_too_small_for_a_batch_is_refused(feed):
    with pytest.raises(ValueError, match="24 scenes do not fill a batch of 25"):
        next(replace(feed, batch_size=25).epoch(0))
