"""A scene: an image of painted and lit shapes, with its label map.

The same seed and index always give the same scene.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.training.scenes.layout import Placed, arrange, largest
from models.training.scenes.shapes import KINDS
from models.training.scenes.textures import (
    Color,
    Picture,
    muted_color,
    paint,
    slope,
    vivid_color,
)

SIZE = 128  # pixels per side
LABELS = ("background", *KINDS)  # label of each value of a label map
OCCLUDED = 0.05  # a scene is occluded if this fraction of one of its shapes is hidden


@dataclass(frozen=True)
class Scene:
    """An image and its truth."""

    image: NDArray[np.uint8]  # (SIZE, SIZE, 3)
    label_map: NDArray[np.uint8]  # (SIZE, SIZE), indices into LABELS
    largest: int  # index into KINDS of the shape with the most visible pixels
    shapes: int
    hidden: float  # fraction of the most hidden shape that other shapes cover

    @property
    def kind(self) -> str:
        return KINDS[self.largest]

    @property
    def occluded(self) -> bool:
        return self.hidden >= OCCLUDED

    def areas(self) -> dict[str, int]:
        """Return the number of visible pixels of each label."""
        pixels = np.bincount(self.label_map.ravel(), minlength=len(LABELS))
        return {label: int(count) for label, count in zip(LABELS, pixels, strict=True)}


def draw_scene(seed: int, index: int) -> Scene:
    """Return scene number `index` of the sequence with this seed."""
    rng = np.random.default_rng((seed, index))
    placed = arrange(rng, SIZE)
    label_map = np.zeros((SIZE, SIZE), np.uint8)
    for shape in placed:
        label_map[shape.visible] = shape.kind + 1
    image = _photograph(rng, _paint(rng, placed))
    hidden = max(1 - shape.shown for shape in placed)
    return Scene(image, label_map, largest(placed).kind, len(placed), hidden)


def _paint(rng: Generator, placed: list[Placed]) -> Picture:
    """Paint the background, then the shapes from back to front, with soft edges of one pixel."""
    picture = paint(rng, muted_color(rng), SIZE)
    colors: list[Color] = []
    for shape in placed:
        colors.append(vivid_color(rng, colors))
        coverage = np.clip(0.5 - shape.distance, 0, 1)[..., None]
        picture += coverage * (paint(rng, colors[-1], SIZE) - picture)
    return picture


def _photograph(rng: Generator, picture: Picture) -> NDArray[np.uint8]:
    """Apply light from one side, the blur of a lens and the noise of a sensor."""
    light = rng.uniform(0.75, 1.2) + rng.uniform(-0.3, 0.3) * slope(rng, SIZE) / SIZE
    lit = _to_bytes(picture * light[..., None].astype(np.float32))
    blurred = Image.fromarray(lit).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0, 0.04))
    return _to_bytes(np.asarray(blurred) / np.float32(255) + noise)


def _to_bytes(picture: Picture) -> NDArray[np.uint8]:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


UNSEEN_SEED = 20_000  # of the scenes that measure quality; no training uses these scenes
