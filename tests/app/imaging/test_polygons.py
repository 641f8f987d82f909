"""Polygons of label maps: traced exactly, and rasterized again by the even-odd rule."""

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco

from app.core.errors import InvalidParameter
from app.imaging import polygons as module
from app.imaging.polygons import polygons
from tests.rasterize import rasterized

SAMPLES = Path(__file__).parents[2] / "samples"
label_maps = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda size: arrays(np.uint8, size, elements=st.integers(0, 3))
)


def label_map(*rows: str) -> np.ndarray:
    return np.array([list(row) for row in rows], np.uint8)


def perimeter(mask: np.ndarray) -> int:
    """Number of pixel edges between the mask and its surroundings."""
    padded = np.pad(mask, 1)
    return int((padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum())


def signed_area(ring: list[int]) -> float:
    """The area inside a ring, positive if it is clockwise in the picture."""
    x, y = np.reshape(ring, (-1, 2)).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def assert_close(given_map: np.ndarray, tolerance: float) -> None:
    """Check the polygons of every class, rasterized again, against its pixels."""
    found = polygons(given_map, tolerance)
    assert set(found) == set(np.unique(given_map).tolist())
    for label, rings in found.items():
        mask = given_map == label
        different = int((rasterized(rings, mask.shape) != mask).sum())
        assert different <= (tolerance * perimeter(mask) if tolerance > 0.5 else 0)
        assert all(len(ring) >= 8 and len(ring) % 2 == 0 for ring in rings)


@settings(max_examples=150, deadline=None)
@given(label_maps, st.sampled_from([0, 0.3, 0.5, 0.99, 1, 1.5, 2, 2.7, 5, 100]))
def test_polygons_differ_from_the_mask_by_at_most_the_tolerance_times_the_perimeter(
    given_map, tolerance
):
    assert_close(given_map, tolerance)


@pytest.mark.parametrize("tolerance", [0, 0.5, 1, 2, 4])
@pytest.mark.parametrize("index", range(4))
def test_the_masks_of_scenes_come_back_within_the_tolerance(index, tolerance):
    mask = np.asarray(Image.open(SAMPLES / f"scene-{index:04}.mask.png")).astype(np.uint8)
    assert_close(mask, tolerance)


@pytest.mark.parametrize("tolerance", [0.5, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_smooth_regions_and_thin_lines_come_back_within_the_tolerance(seed, tolerance):
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:120, 0:160]
    waves = sum(np.sin(rows * a + columns * b + c) for a, b, c in random.normal(0, 0.08, (6, 3)))
    smooth = np.digitize(waves, [-1, 0, 1]).astype(np.uint8)
    smooth[np.abs(rows * 0.7 - columns * 0.5 + 3) < 0.5] = 4
    smooth[60, :] = 5
    assert_close(smooth, tolerance)


@settings(max_examples=100, deadline=None)
@given(label_maps)
def test_outer_rings_are_clockwise_and_holes_counterclockwise(given_map):
    for label, rings in polygons(given_map, 0).items():
        areas = [signed_area(ring) for ring in rings]
        assert sum(areas) == (given_map == label).sum()
        outer = [ring for ring, area in zip(rings, areas, strict=True) if area > 0]
        filled = rasterized(outer, given_map.shape, even_odd=False)
        assert (filled >= (given_map == label)).all()


def test_a_ring_follows_the_pixel_edges_from_the_upper_left():
    found = polygons(label_map("000", "011", "000"), 0)
    assert found[1] == [[1, 1, 3, 1, 3, 2, 1, 2]]


def test_a_hole_is_a_ring_after_its_outer_ring():
    found = polygons(label_map("1111", "1001", "1111"), 1.0)
    assert found[1] == [[0, 0, 4, 0, 4, 3, 0, 3], [3, 1, 1, 1, 1, 2, 3, 2]]
    assert found[0] == [[1, 1, 3, 1, 3, 2, 1, 2]]


def test_nested_holes_alternate():
    rings = label_map("1111111", "1000001", "1011101", "1010101", "1011101", "1000001", "1111111")
    areas = [signed_area(ring) for ring in polygons(rings, 0)[1]]
    assert areas == [49, -25, 9, -1]


def test_the_whole_image_is_one_rectangle():
    assert polygons(np.full((3, 5), 7, np.uint8), 1.0) == {7: [[0, 0, 5, 0, 5, 3, 0, 3]]}


def test_pixels_that_touch_at_a_corner_are_separate_rings():
    found = polygons(np.indices((6, 6)).sum(0).astype(np.uint8) % 2, 2.0)
    assert [len(found[label]) for label in (0, 1)] == [18, 18]
    assert all(signed_area(ring) == 1 for rings in found.values() for ring in rings)


def test_single_pixels_and_lines_keep_their_shape_at_any_tolerance():
    found = polygons(label_map("00000", "02000", "00000", "11111"), 100.0)
    assert found[2] == [[1, 1, 2, 1, 2, 2, 1, 2]]
    assert found[1] == [[0, 3, 5, 3, 5, 4, 0, 4]]


def test_a_tolerance_leaves_out_the_steps_of_a_slope():
    slope = np.tri(200, 200, dtype=np.uint8)
    assert len(polygons(slope, 0)[1][0]) // 2 > 390
    assert len(polygons(slope, 1.0)[1][0]) // 2 < 6


def test_indices_above_255_are_traced():
    found = polygons(np.array([[0, 300], [65_535, 300]], np.uint16), 0)
    assert found[300] == [[1, 0, 2, 0, 2, 2, 1, 2]]
    assert found[65_535] == [[0, 1, 1, 1, 1, 2, 0, 2]]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_pycocotools_reads_the_rings():
    mask = np.random.default_rng(1).integers(0, 2, (40, 50)).astype(np.uint8)
    height, width = mask.shape
    rings = [
        coco.decode(coco.frPyObjects([ring], height, width))[..., 0]
        for ring in polygons(mask, 0)[1]
    ]
    np.testing.assert_array_equal(np.bitwise_xor.reduce(rings), mask)


def test_noise_of_many_pixels_is_refused_at_once():
    noise = np.random.default_rng(2).integers(0, 150, (3000, 4000)).astype(np.uint8)
    began = time.process_time()
    with pytest.raises(InvalidParameter, match="use the rle"):
        polygons(noise, 1.0)
    assert time.process_time() - began < 0.5


def test_the_largest_accepted_noise_stays_within_bounds(monkeypatch):
    noise = np.random.default_rng(2).integers(0, 150, (200, 200)).astype(np.uint8)
    monkeypatch.setattr(module, "MAX_TURNS", 201 * 201)
    assert sum(map(len, polygons(noise, 1.0).values())) > 39_000
    monkeypatch.setattr(module, "MAX_TURNS", 39_000)
    with pytest.raises(InvalidParameter):
        polygons(noise, 1.0)


def test_tracing_takes_few_bytes_per_pixel():
    rows, columns = np.mgrid[0:2000, 0:3000]
    disc = ((rows - 900) ** 2 + (columns - 1400) ** 2 < 800_000).astype(np.uint8)
    tracemalloc.start()
    polygons(disc, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * disc.size


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (3, 2_000_000)])
def test_long_and_narrow_maps_are_traced_in_strips(shape):
    given_map = np.zeros(shape, np.uint8)
    given_map.flat[shape[1] // 2 + 1 :] = 1
    found = polygons(given_map, 0)
    assert sum(signed_area(ring) for ring in found[1]) == given_map.sum()
