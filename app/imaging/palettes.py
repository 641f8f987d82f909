"""The colors of a model's classes, and which class is the background."""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.core.types import LabelMap
from app.imaging.dataset_colors import ADE20K, CITYSCAPES, PASCAL_VOC

Colors = NDArray[np.uint8]  # (N, 3), RGB

BACKGROUNDS = ("background", "bg", "ignore", "none", "null", "unlabeled", "unlabelled", "void")
EQUAL_LABELS = 0.9  # share of a dataset's labels by which the dataset is recognized
BLACK = (0, 0, 0)
FIRST_COLORS = (  # of Okabe and Ito, who chose them so that color-blind people can tell them apart
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167),
    (0, 114, 178),
)  # fmt: skip
LEVELS = 16  # of each channel, from which further colors are chosen
LIGHTNESS = (0.45, 0.92)  # of these colors, in Oklab; black and white are 0 and 1
MIN_CHROMA = 0.07  # the photograph has enough gray
TO_LMS = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
          (0.0883024619, 0.2817188376, 0.6299787005))  # fmt: skip
TO_LAB = ((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
          (0.0259040371, 0.7827717662, -0.8086757660))  # fmt: skip


@lru_cache(maxsize=16)  # a process serves a few models
def palette(labels: tuple[str, ...]) -> Colors:
    """The color of each class, uint8 (labels, 3), not writable.

    The colors are those of the dataset if its labels are recognized, otherwise `distinct_colors`.
    """
    colors = dataset_colors(labels)
    if colors is None:
        background = bool(labels) and is_background(labels[0])
        colors = distinct_colors(len(labels), (BLACK, *FIRST_COLORS)[not background :])
    colors.flags.writeable = False
    return colors


def hex_color(color: Sequence[int] | Colors) -> str:
    """A color as #rrggbb."""
    return "#" + bytes(color).hex()


def with_palette(label_map: LabelMap, colors: Colors) -> Image.Image:
    """A label map of at most 256 classes as a palette image with 8 bits per pixel."""
    image = Image.fromarray(label_map.astype(np.uint8))
    unused = bytes(3 * (256 - len(colors)))  # a shorter palette would be packed below 8 bits
    image.putpalette(colors.tobytes() + unused)
    return image


def in_color(label_map: LabelMap, colors: Colors) -> Image.Image:
    """A label map as an RGB image in the color of each class."""
    if len(colors) > 256:
        return Image.fromarray(colors[label_map])
    return with_palette(label_map, colors).convert("RGB")


def is_background(label: str) -> bool:
    """Whether a label says that a class is nothing in particular, such as `_background_`."""
    return _normalized(label) in BACKGROUNDS


def dataset_colors(labels: Sequence[str]) -> Colors | None:
    """The published colors of ADE20K, Cityscapes or PASCAL VOC, if these are its labels.

    At least nine of ten labels must be equal at the same index, without regard to case, spaces and
    synonyms after a comma, a semicolon or a slash.
    """
    for table in (ADE20K, CITYSCAPES, PASCAL_VOC):
        names, colors = zip(*(entry.split(":") for entry in table.split()), strict=True)
        if len(names) == len(labels):
            pairs = zip(names, labels, strict=True)
            equal = sum(_normalized(name) == _normalized(label) for name, label in pairs)
            if equal >= EQUAL_LABELS * len(names):
                return np.frombuffer(bytes.fromhex("".join(colors)), np.uint8).reshape(-1, 3).copy()
    return None


def _normalized(label: str) -> str:
    return re.sub(r"[\W_]", "", re.split("[,;/]", label)[0]).casefold()


def distinct_colors(count: int, first: Sequence[Sequence[int]]) -> Colors:
    """Colors that are easy to tell apart, also any number of them from the first on.

    Each color after the `first` ones is the one, of a grid of saturated colors of medium lightness,
    that is farthest in Oklab from its nearest predecessor (Glasbey and others, Colour displays for
    categorical images, 2007). When the grid is used up, the colors repeat.
    """
    steps = np.linspace(0, 255, LEVELS)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, *ab = oklab(grid).T
    vivid = (np.hypot(*ab) >= MIN_CHROMA) & (LIGHTNESS[0] <= lightness) & (lightness < LIGHTNESS[1])
    grid = grid[vivid]
    candidates = oklab(grid)
    chosen = [np.array(color, np.float64) for color in first]
    nearest = np.full(len(grid), np.inf)
    for index in range(min(count, len(first) + len(grid))):
        if index >= len(chosen):
            chosen.append(grid[nearest.argmax()])
        distances = np.linalg.norm(candidates - oklab(chosen[index]), axis=1)
        nearest = np.minimum(nearest, distances)
    return np.resize(np.array(chosen).astype(np.uint8), (count, 3))


def oklab(colors: NDArray[np.floating | np.integer]) -> NDArray[np.float64]:
    """sRGB colors (..., 3) from 0 to 255 in Oklab: lightness, green to red, blue to yellow."""
    values = np.asarray(colors, np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ np.array(TO_LMS).T) @ np.array(TO_LAB).T
