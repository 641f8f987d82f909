"""Draws the color of each class over the photograph."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from app.core.types import LabelMap
from app.imaging.blend import draw_over
from app.imaging.palettes import Colors, in_color, is_background

OPACITY = 0.5
AUTO, NONE = "auto", "none"


class Overlay(NamedTuple):
    """How classes are drawn over the photograph.

    Attributes:
        opacity: of the colors, from 0, which leaves the photograph as it is, to 1.
        background: index of the class where the photograph stays as it is; None: no class.
    """

    opacity: float = OPACITY
    background: int | None = None


def background_class(name: str, labels: Sequence[str]) -> int | None:
    """The index of the class where the photograph stays as it is; None: no class.

    Args:
        name: `auto`: class 0 if its label says that it is a background; `none`: no class; otherwise
            the index of a class or its label.
        labels: the label of each class.

    Raises:
        ValueError: there is no such class.
    """
    if name == AUTO:
        return 0 if is_background(labels[0]) else None
    if name == NONE:
        return None
    if name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(labels):
        return int(name)
    if name in labels:
        return labels.index(name)
    raise ValueError(
        f"background must be {AUTO}, {NONE}, a label of the model or an index from 0 to "
        f"{len(labels) - 1}, not {name[:40]!r}"
    )


def draw_overlay(
    label_map: LabelMap, colors: Colors, rgb: Image.Image, overlay: Overlay
) -> Image.Image:
    """Draw the color of each class over the photograph, which is changed and returned.

    Args:
        label_map: (H, W), the class of each pixel.
        colors: of the classes.
        rgb: the photograph, of the same size.
        overlay: how to draw.
    """
    return draw_over(rgb, partial(_blended, label_map, colors, overlay))


def _blended(
    label_map: LabelMap, colors: Colors, overlay: Overlay, strip: Image.Image, top: int
) -> Image.Image:
    classes = label_map[top : top + strip.height]
    blended = Image.blend(strip, in_color(classes, colors), overlay.opacity)
    if overlay.background is not None:
        unpainted = (classes == overlay.background) * np.uint8(255)
        blended.paste(strip, mask=Image.fromarray(unpainted))
    return blended
