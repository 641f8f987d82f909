"""The colors of a model's classes, which class is the background, and label maps in color."""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.core.types import LabelMap
from app.imaging.dataset_colors import ADE20K, CITYSCAPES, PASCAL_VOC
from app.imaging.distinct_colors import distinct_colors

Colors = NDArray[np.uint8]  # (N, 3), RGB

BACKGROUNDS = ("background", "bg", "ignore", "none", "null", "unlabeled", "unlabelled", "void")
EQUAL_LABELS = 0.9  # share of a dataset's labels by which the dataset is recognized
BLACK = (0, 0, 0)
FIRST_COLORS = (  # of Okabe and Ito, who chose them so that color-blind people can tell them apart
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167),
    (0, 114, 178),
)  # fmt: skip


@lru_cache(maxsize=16)  # a process serves a few models
def palette(labels: tuple[str, ...]) -> Colors:
    """The color of each class, uint8 (labels, 3), not writable.

    The colors are those of the dataset if its labels are recognized, otherwise `distinct_colors`.
    """
    colors = dataset_colors(labels)
    if colors is None:
        first = (BLACK, *FIRST_COLORS) if is_background(labels[0]) else FIRST_COLORS
        colors = distinct_colors(len(labels), first)
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
