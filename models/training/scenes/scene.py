"""A scene: an arrangement of shapes, painted and lit, with the truth about each of its pixels.

Does not know who learns from it; the same seed and index always draw the same scene.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.training.scenes.layout import Placed, arrange, largest
from models.training.scenes.shapes import KINDS
from models.training.scenes.textures import (
    Colour,
    Picture,
    muted_colour,
    paint,
    slope,
    vivid_colour,
)

SIZE = 128  # pixels to a side
LABELS = ("background", *KINDS)  # what the values of a label map stand for
OCCLUDED = 0.05  # a scene is occluded when others hide this part of one of its shapes


@dataclass(frozen=True)
class Scene:
    """What is seen, and the truth about it."""

    image: NDArray[np.uint8]  # (SIZE, SIZE, 3)
    label_map: NDArray[np.uint8]  # (SIZE, SIZE), indices into LABELS
    largest: int  # index into KINDS of the shape with the most visible pixels
    shapes: int
    hidden: float  # the part of the most covered shape that others hide

    @property
    def kind(self) -> str:
        return KINDS[self.largest]

    @property
    def occluded(self) -> bool:
        return self.hidden >= OCCLUDED

    def areas(self) -> dict[str, int]:
        """Visible pixels of each label."""
        pixels = np.bincount(self.label_map.ravel(), minlength=len(LABELS))
        return {label: int(count) for label, count in zip(LABELS, pixels, strict=True)}


def draw_scene(seed: int, index: int) -> Scene:
    """Scene number `index` of the endless row that `seed` stands for."""
    rng = np.random.default_rng((seed, index))
    placed = arrange(rng, SIZE)
    label_map = np.zeros((SIZE, SIZE), np.uint8)
    for shape in placed:
        label_map[shape.visible] = shape.kind + 1
    image = _photograph(rng, _paint(rng, placed))
    hidden = max(1 - shape.shown for shape in placed)
    return Scene(image, label_map, largest(placed).kind, len(placed), hidden)


def _paint(rng: Generator, placed: list[Placed]) -> Picture:
    """The background and, over it, one shape after the other with soft edges a pixel wide."""
    picture = paint(rng, muted_colour(rng), SIZE)
    colours: list[Colour] = []
    for shape in placed:
        colours.append(vivid_colour(rng, colours))
        coverage = np.clip(0.5 - shape.distance, 0, 1)[..., None]
        picture += coverage * (paint(rng, colours[-1], SIZE) - picture)
    return picture


def _photograph(rng: Generator, picture: Picture) -> NDArray[np.uint8]:
    """Light from one side, a lens that blurs and a sensor with noise."""
    light = rng.uniform(0.75, 1.2) + rng.uniform(-0.3, 0.3) * slope(rng, SIZE) / SIZE
    lit = _to_bytes(picture * light[..., None].astype(np.float32))
    blurred = Image.fromarray(lit).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0, 0.04))
    return _to_bytes(np.asarray(blurred) / np.float32(255) + noise)


def _to_bytes(picture: Picture) -> NDArray[np.uint8]:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


UNSEEN_SEED = 20_000  # of the scenes that quality is measured on, and that are never trained on
