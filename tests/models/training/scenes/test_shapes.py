import numpy as np
import pytest

from models.training.scenes.shapes import SHAPES

SPAN, POINTS = 2.0, 800


def grid(points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-SPAN, SPAN, points, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


@pytest.mark.parametrize("kind", SHAPES)
def test_every_kind_has_the_area_of_the_unit_circle(kind):
    inside = SHAPES[kind](*grid()) < 0
    area = inside.sum() * (2 * SPAN / POINTS) ** 2
    assert area == pytest.approx(np.pi, rel=0.01)


@pytest.mark.parametrize("kind", SHAPES)
def test_values_near_the_outline_are_distances(kind):
    x, y = grid()
    distance = SHAPES[kind](x, y)
    down, right = np.gradient(distance, 2 * SPAN / (POINTS - 1))
    slope = np.hypot(down, right)
    near = np.abs(distance) < 0.02
    assert np.median(slope[near]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", SHAPES)
def test_no_kind_is_a_rotation_of_another_kind(kind):
    x, y = grid(points=100)
    outline = SHAPES[kind](x, y) < 0
    for angle in np.linspace(0, 2 * np.pi, 36, endpoint=False):
        turned_x, turned_y = (
            x * np.cos(angle) + y * np.sin(angle),
            y * np.cos(angle) - x * np.sin(angle),
        )
        for other in SHAPES.keys() - {kind}:
            overlap = SHAPES[other](turned_x, turned_y) < 0
            assert (outline & overlap).sum() / (outline | overlap).sum() < 0.9
