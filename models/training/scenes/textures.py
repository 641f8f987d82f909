"""Textures: a color with a pattern, drawn the same for backgrounds and every kind of shape."""

from collections.abc import Callable
from colorsys import hsv_to_rgb
from math import cos, pi, sin
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Color: TypeAlias = NDArray[np.float32]  # red, green, blue from 0 to 1
Picture: TypeAlias = NDArray[np.float32]  # (H, W, 3)
Plane: TypeAlias = NDArray[np.floating]  # (H, W)

CONTRAST = 0.4  # the least distance in RGB between the colors of two shapes in a scene
SWING = 0.1  # the largest change of a color by a pattern, in both directions


def muted_color(rng: Generator) -> Color:
    """Return a color for a background: any brightness, nearly gray."""
    return _color(rng.random(), rng.uniform(0, 0.25), rng.uniform(0.15, 0.95))


def vivid_color(rng: Generator, taken: list[Color]) -> Color:
    """Return a color for a shape: any hue, at least CONTRAST from the given colors."""
    while True:
        color = _color(rng.random(), rng.uniform(0.65, 1), rng.uniform(0.6, 1))
        if all(float(np.linalg.norm(color - other)) >= CONTRAST for other in taken):
            return color


def paint(rng: Generator, color: Color, size: int) -> Picture:
    """Return a square of `color` with a random pattern."""
    pattern = PATTERNS[rng.integers(len(PATTERNS))](rng, size)
    direction = rng.normal(size=3)
    swing = direction / np.linalg.norm(direction) * rng.uniform(0.4, 1) * SWING
    return color + pattern.astype(np.float32)[..., None] * swing.astype(np.float32)


def slope(rng: Generator, size: int) -> Plane:
    """Return a plane that rises by 1 per pixel in a random direction and is 0 in the middle."""
    angle = rng.uniform(0, 2 * pi)
    steps = np.arange(size, dtype=np.float32) - (size - 1) / 2
    return (steps * np.float32(cos(angle)))[None, :] + (steps * np.float32(sin(angle)))[:, None]


def plain(rng: Generator, size: int) -> Plane:
    """Return zeros: no pattern."""
    return np.zeros((size, size), np.float32)


def gradient(rng: Generator, size: int) -> Plane:
    """Return a gradient from one edge to the other."""
    rising = slope(rng, size)
    return rising / np.abs(rising).max()


def stripes(rng: Generator, size: int) -> Plane:
    """Return stripes with a random angle and pitch."""
    return np.sign(np.sin(slope(rng, size) * _pitch(rng) + rng.uniform(0, 2 * pi)))


def checker(rng: Generator, size: int) -> Plane:
    """Return a checkerboard with a random angle and pitch."""
    rising, pitch = slope(rng, size), _pitch(rng)
    across = np.rot90(rising)  # the same slope, rotated by a right angle
    return np.sign(np.sin(rising * pitch) * np.sin(across * pitch))


def dots(rng: Generator, size: int) -> Plane:
    """Return a grid of round spots with a random angle and pitch."""
    rising, pitch = slope(rng, size), _pitch(rng)
    across = np.rot90(rising)
    return np.where(np.sin(rising * pitch) * np.sin(across * pitch) > 0.5, 1, -1).astype(np.float32)


def clouds(rng: Generator, size: int) -> Plane:
    """Return smooth blots of a random size."""
    cells = int(rng.integers(4, 24))
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def _color(hue: float, saturation: float, value: float) -> Color:
    return np.array(hsv_to_rgb(hue, saturation, value), np.float32)


def _pitch(rng: Generator) -> np.float32:
    """Return the radians per pixel of a pattern with a period of 6 to 24 pixels."""
    return np.float32(2 * pi / rng.uniform(6, 24))


PATTERNS: tuple[Callable[[Generator, int], Plane], ...] = (
    plain,
    gradient,
    stripes,
    checker,
    dots,
    clouds,
)
