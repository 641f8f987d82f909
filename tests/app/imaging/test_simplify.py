"""Rings with fewer points: distances from the old ring, and the number of points that remain."""

import numpy as np
import pytest

from app.imaging import simplify as module
from app.imaging.polygons import trace
from app.imaging.simplify import simplify


def regions(seed: int) -> np.ndarray:
    """A label map of smooth regions."""
    rows, columns = np.mgrid[0:90, 0:130]
    waves = np.random.default_rng(seed).normal(0, 0.1, (6, 3))
    return (sum(np.sin(rows * a + columns * b + c) for a, b, c in waves) > 0).astype(np.uint8)


def distances(points: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distances of points from the line from `begin` to `end`."""
    side = end - begin
    along = np.clip((points - begin) @ side / max(side @ side, 1), 0, 1)
    return np.linalg.norm(points - begin - along[:, None] * side, axis=1)


@pytest.mark.parametrize("tolerance", [0.5, 1, 2.3])
@pytest.mark.parametrize("seed", range(3))
def test_no_point_is_farther_from_its_new_side_than_the_tolerance(seed, tolerance):
    rings = trace(regions(seed))
    begins, points = simplify(rings.begins, rings.points, tolerance)
    assert len(points) < len(rings.points)
    for ring in range(len(begins) - 1):
        old = rings.points[rings.begins[ring] : rings.begins[ring + 1]]
        new = points[begins[ring] : begins[ring + 1]]
        at = [int(np.flatnonzero((old == point).all(axis=1))[0]) for point in new]
        assert at[0] == 0
        assert at == sorted(at)
        assert len(at) >= 4
        for first, last in zip(at, [*at[1:], len(old)], strict=True):
            between = old[first + 1 : last]
            assert (distances(between, old[first], old[last % len(old)]) <= tolerance).all()


def test_batches_do_not_change_the_result(monkeypatch):
    rings = trace(np.random.default_rng(4).integers(0, 2, (40, 40)).astype(np.uint8))
    whole = simplify(rings.begins, rings.points, 1.0)
    monkeypatch.setattr(module, "BATCH", 7)
    for ours, theirs in zip(simplify(rings.begins, rings.points, 1.0), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_chain_that_was_split_too_often_keeps_its_points(monkeypatch):
    rings = trace(regions(5))
    monkeypatch.setattr(module, "MAX_SPLITS", module.FORCED)
    assert len(simplify(rings.begins, rings.points, 1.0)[1]) == len(rings.points)


def test_without_tolerance_all_points_stay():
    rings = trace(regions(6))
    assert simplify(rings.begins, rings.points, 0)[1] is rings.points
