import numpy as np
import pytest
import torch

from models.training.bundled.batches import Batch, batches, disguised, draw_pool
from models.training.scenes.scene import SIZE, draw_scene


@pytest.fixture(scope="module")
def pool() -> Batch:
    return draw_pool(8, 24, 64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pool_holds_the_scenes_of_its_seed_at_the_size_asked_for(pool):
    assert pool.images.shape == (24, 64, 64, 3)
    assert pool.label_maps.shape == (24, SIZE, SIZE)
    scene = draw_scene(8, 5)
    assert np.array_equal(pool.label_maps[5].numpy(), scene.label_map)
    assert (int(pool.largest[5]), int(pool.shapes[5])) == (scene.largest, scene.shapes)


def test_pool_keeps_images_as_they_are_at_their_own_size():
    assert np.array_equal(draw_pool(8, 1, SIZE).images[0].numpy(), draw_scene(8, 0).image)


def test_drawing_is_reported_scene_by_scene():
    heard = []
    draw_pool(8, 3, 64, heard.append)
    assert heard == [1, 2, 3]


def test_alone_keeps_scenes_of_one_shape(pool):
    alone = pool.alone()
    assert 0 < len(alone) < len(pool)
    assert set(alone.shapes.tolist()) == {1}


def test_crowded_keeps_several_shapes_and_a_part_of_the_single_ones(pool):
    single = len(pool.alone())
    assert len(pool.crowded(1.0)) == len(pool)
    assert len(pool.crowded(0.0)) == len(pool) - single
    assert 0 < len(pool.crowded(0.5).alone()) < single


def test_each_round_takes_every_scene_once(pool):
    row = batches(pool, 8, generator())
    for _ in range(2):
        taken = torch.cat([next(row).largest for _ in range(3)])
        assert sorted(taken.tolist()) == sorted(pool.largest.tolist())


def test_batches_are_the_same_for_the_same_seed(pool):
    one, same = batches(pool, 8, generator(4)), batches(pool, 8, generator(4))
    for _ in range(4):
        assert torch.equal(next(one).images, next(same).images)


def test_disguises_keep_areas_and_move_image_and_label_map_alike(pool):
    """A scene whose image is its own label map must stay so."""
    grey = pool.label_maps[..., None].expand(-1, -1, -1, 3)
    batch = Batch(grey, pool.label_maps, pool.largest, pool.shapes)
    seen = set()
    for seed in range(40):
        other = disguised(batch, generator(seed))
        assert torch.equal(other.images[..., 0], other.label_maps)
        assert torch.equal(
            other.label_maps.flatten().bincount(), batch.label_maps.flatten().bincount()
        )
        seen.add(other.label_maps.numpy().tobytes())
    assert len(seen) == 8


def test_pool_too_small_for_a_batch_is_refused(pool):
    with pytest.raises(ValueError, match="24 scenes"):
        next(batches(pool, 25, generator()))
