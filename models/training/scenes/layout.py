"""The layout of a scene: its shapes, their places, and the visible pixels of each."""

from dataclasses import dataclass
from math import cos, pi, sin
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.training.scenes.shapes import KINDS, SHAPES
from models.training.scenes.textures import Plane

Mask: TypeAlias = NDArray[np.bool_]  # (H, W)

MOST_SHAPES = 4
RADIUS = (0.17, 0.32)  # of the circle with a shape's area, as a fraction of the scene's side
MARGIN = 1.25  # the largest shape has at least this many times the area of any other kind
LEAST_VISIBLE = 0.6  # fraction of each shape


@dataclass(frozen=True)
class Placed:
    """A shape at its place, with the pixels that the shapes in front of it do not hide."""

    kind: int  # index into KINDS
    x: float
    y: float
    radius: float
    distance: Plane  # in pixels, to the outline, negative inside
    visible: Mask

    @property
    def area(self) -> int:
        return int(np.count_nonzero(self.visible))

    @property
    def shown(self) -> float:
        """The fraction of the shape that is visible."""
        return self.area / int(np.count_nonzero(self.distance < 0))

    def behind(self, other: "Placed") -> "Placed":
        visible = self.visible & ~other.visible
        return Placed(self.kind, self.x, self.y, self.radius, self.distance, visible)


def arrange(rng: Generator, size: int) -> list[Placed]:
    """Return the shapes from back to front; one of them is clearly the largest."""
    while True:
        placed: list[Placed] = []
        for _ in range(rng.integers(1, MOST_SHAPES + 1)):
            placed = _with_one_more(rng, placed, size)
        if largest_is_clear(placed):
            return placed


def areas(placed: list[Placed]) -> NDArray[np.int64]:
    """Return the visible pixels of each kind."""
    total = np.zeros(len(KINDS), np.int64)
    for shape in placed:
        total[shape.kind] += shape.area
    return total


def largest(placed: list[Placed]) -> Placed:
    """Return the shape with the most visible pixels."""
    return max(placed, key=lambda shape: shape.area)


def largest_is_clear(placed: list[Placed]) -> bool:
    """Return whether the largest shape exceeds the area of each other kind by the margin."""
    first = largest(placed)
    total = areas(placed)
    others = np.delete(total, first.kind)
    return bool(first.area >= MARGIN * others.max())


def _with_one_more(rng: Generator, placed: list[Placed], size: int) -> list[Placed]:
    """Return the shapes and a new one in front, unless it hides too much of another."""
    neighbor = placed[rng.integers(len(placed))] if placed and rng.random() < 0.65 else None
    new = _place(rng, size, neighbor)
    behind = [shape.behind(new) for shape in placed]
    if new.area == 0 or any(shape.shown < LEAST_VISIBLE for shape in behind):
        return placed
    return [*behind, new]


def _place(rng: Generator, size: int, touching: Placed | None) -> Placed:
    """Return a shape at a random place, or where it probably overlaps `touching`."""
    radius = rng.uniform(*RADIUS) * size
    if touching is None:
        x, y = rng.uniform(0.8 * radius, size - 0.8 * radius, 2)
    else:
        away, angle = (touching.radius + radius) * rng.uniform(0.6, 1.1), rng.uniform(0, 2 * pi)
        x, y = touching.x + away * cos(angle), touching.y + away * sin(angle)
        x, y = np.clip((x, y), 0.8 * radius, size - 0.8 * radius)
    kind = int(rng.integers(len(KINDS)))
    distance = _distance(rng, kind, float(x), float(y), radius, size)
    return Placed(kind, float(x), float(y), radius, distance, distance < 0)


def _distance(rng: Generator, kind: int, x: float, y: float, radius: float, size: int) -> Plane:
    """Return the distance in pixels to the outline of a randomly rotated and squeezed shape."""
    angle, squeeze = rng.uniform(0, 2 * pi), rng.uniform(0.85, 1 / 0.85)
    right = (np.arange(size, dtype=np.float32) + 0.5 - np.float32(x))[None, :]
    down = (np.arange(size, dtype=np.float32) + 0.5 - np.float32(y))[:, None]
    across = (right * np.float32(cos(angle)) + down * np.float32(sin(angle))) / radius
    along = (down * np.float32(cos(angle)) - right * np.float32(sin(angle))) / radius
    form = SHAPES[KINDS[kind]]
    return form(across * np.float32(squeeze), along / np.float32(squeeze)) * np.float32(radius)
