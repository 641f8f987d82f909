"""Plots: a confusion matrix, and a sheet of scenes with their truth and predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.training.confusion import Confusion
from models.training.scenes.samples import LABEL_COLORS
from models.training.scenes.scene import LABELS, SIZE, Scene
from models.training.scenes.shapes import KINDS

PAPER, INK, FAINT = (255, 255, 255), (33, 37, 41), (134, 142, 150)
RIGHT, WRONG = (18, 110, 190), (214, 60, 40)
CELL, LEFT, TOP = 84, 96, 64  # pixels: a cell of the matrix, the margins left and above
GAP, CAPTION = 8, 26  # pixels: between the images of a sheet, and the line below them


@dataclass(frozen=True)
class ScenePrediction:
    """The predictions of both networks for a scene."""

    scene: Scene
    largest: int  # index into KINDS
    label_map: NDArray[np.integer]


def confusion_plot(confusion: Confusion) -> Image.Image:
    """Return a plot with truth in rows and predictions in columns; cells are shaded by recall."""
    count = len(confusion.labels)
    size = (LEFT + count * CELL + GAP, TOP + count * CELL + GAP)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((GAP, GAP), "rows: the largest shape; columns: predictions", FAINT, font(14))
    parts = confusion.counts / np.maximum(confusion.counts.sum(1, keepdims=True), 1)
    for row, label in enumerate(confusion.labels):
        y = TOP + row * CELL
        draw.text((LEFT - GAP, y + CELL // 2), label, INK, font(16), anchor="rm")
        draw.text((LEFT + row * CELL + CELL // 2, TOP - GAP), label, INK, font(16), anchor="ms")
        for column in range(count):
            cell = int(confusion.counts[row, column]), float(parts[row, column])
            draw_cell(draw, (LEFT + column * CELL, y), *cell, right=row == column)
    return image


def draw_cell(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], count: int, part: float, *, right: bool
) -> None:
    """One count, in a square between white and the color of correct or wrong predictions."""
    x, y = corner
    strength = part**0.5  # so that a single error is visible
    fill = blend(PAPER, RIGHT if right else WRONG, strength)
    draw.rectangle((x, y, x + CELL - 3, y + CELL - 3), fill, outline=(222, 226, 230))
    ink = PAPER if strength > 0.6 else (INK if count else (206, 212, 218))
    middle = (x + CELL // 2 - 1, y + CELL // 2 - (8 if count else 1))
    draw.text(middle, str(count), ink, font(20), anchor="mm")
    if count:
        draw.text((middle[0], middle[1] + 22), f"{part:.1%}", ink, font(12), anchor="mm")


def sheet(predictions: Sequence[ScenePrediction], columns: int = 3) -> Image.Image:
    """Return a grid of scenes: the image, its true and its predicted label map, both kinds."""
    width, height = 3 * SIZE + 2 * 2 + 3 * GAP, SIZE + CAPTION + GAP
    rows = -(-len(predictions) // columns)
    top = 40
    image = Image.new("RGB", (columns * width + GAP, top + rows * height + GAP), PAPER)
    draw = ImageDraw.Draw(image)
    draw_legend(draw)
    for index, prediction in enumerate(predictions):
        corner = (2 * GAP + index % columns * width, top + index // columns * height)
        draw_prediction(image, corner, prediction)
    return image


def draw_legend(draw: ImageDraw.ImageDraw) -> None:
    """Draw a line with the color of each label."""
    x = 2 * GAP
    for label, color in zip(LABELS, LABEL_COLORS, strict=True):
        draw.rectangle((x, 12, x + 16, 28), color)
        draw.text((x + 22, 20), label, INK, font(15), anchor="lm")
        x += 22 + int(draw.textlength(label, font(15))) + 20
    draw.text((x + GAP, 20), "each: image, truth, prediction", FAINT, font(15), anchor="lm")


def draw_prediction(
    image: Image.Image, corner: tuple[int, int], prediction: ScenePrediction
) -> None:
    """Draw the three images of a scene, and below them the true and the predicted kind."""
    x, y = corner
    scene = prediction.scene
    images = (scene.image, colored(scene.label_map), colored(prediction.label_map))
    for index, pixels in enumerate(images):
        image.paste(Image.fromarray(pixels), (x + index * (SIZE + 2), y))
    draw = ImageDraw.Draw(image)
    hit = prediction.largest == scene.largest
    agreed = float((prediction.label_map == scene.label_map).mean())
    line = y + SIZE + CAPTION // 2
    draw.text((x, line), f"largest: {scene.kind}", INK, font(14), anchor="lm")
    text = f"predicted: {KINDS[prediction.largest]}; {agreed:.1%} of pixels correct"
    draw.text((x + SIZE + 2, line), text, RIGHT if hit else WRONG, font(14), anchor="lm")


def colored(label_map: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the label map in the colors of the labels."""
    return np.array(LABEL_COLORS, np.uint8)[label_map]


def blend(
    one: tuple[int, int, int], other: tuple[int, int, int], part: float
) -> tuple[int, int, int]:
    """Return a mixture of two colors; `part` is the fraction of the second."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, so that plots are equal on all machines."""
    return ImageFont.load_default(size)
