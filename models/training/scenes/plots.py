"""Pictures of a quality: the confusion matrix, and a sheet of scenes with truths and answers.

Does not know networks, files or how anything was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.training.confusion import Confusion
from models.training.scenes.samples import LABEL_COLOURS
from models.training.scenes.scene import LABELS, SIZE, Scene
from models.training.scenes.shapes import KINDS

PAPER, INK, FAINT = (255, 255, 255), (33, 37, 41), (134, 142, 150)
RIGHT, WRONG = (18, 110, 190), (214, 60, 40)
CELL, LEFT, TOP = 84, 96, 64  # pixels: a cell of the matrix, the room beside it and above it
GAP, CAPTION = 8, 26  # pixels: between the pictures of a sheet, and the line under three of them


@dataclass(frozen=True)
class Answer:
    """What both networks said of a scene."""

    scene: Scene
    largest: int  # index into KINDS
    label_map: NDArray[np.integer]


def confusion_picture(confusion: Confusion) -> Image.Image:
    """Truths in rows, answers in columns; each cell as dark as its part of the row is large."""
    count = len(confusion.labels)
    size = (LEFT + count * CELL + GAP, TOP + count * CELL + GAP)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((GAP, GAP), "rows: the largest shape; columns: what was said", FAINT, font(14))
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
    """One count, in a square between white and the colour of being right or wrong."""
    x, y = corner
    strength = part**0.5  # so that a single mistake still shows
    fill = blend(PAPER, RIGHT if right else WRONG, strength)
    draw.rectangle((x, y, x + CELL - 3, y + CELL - 3), fill, outline=(222, 226, 230))
    ink = PAPER if strength > 0.6 else (INK if count else (206, 212, 218))
    middle = (x + CELL // 2 - 1, y + CELL // 2 - (8 if count else 1))
    draw.text(middle, str(count), ink, font(20), anchor="mm")
    if count:
        draw.text((middle[0], middle[1] + 22), f"{part:.1%}", ink, font(12), anchor="mm")


def sheet(answers: Sequence[Answer], columns: int = 3) -> Image.Image:
    """Scenes in a grid: each the image, its true and its answered label map, and the two kinds."""
    width, height = 3 * SIZE + 2 * 2 + 3 * GAP, SIZE + CAPTION + GAP
    rows = -(-len(answers) // columns)
    top = 40
    image = Image.new("RGB", (columns * width + GAP, top + rows * height + GAP), PAPER)
    draw = ImageDraw.Draw(image)
    draw_legend(draw)
    for index, answer in enumerate(answers):
        corner = (2 * GAP + index % columns * width, top + index // columns * height)
        draw_answer(image, corner, answer)
    return image


def draw_legend(draw: ImageDraw.ImageDraw) -> None:
    """The colour of each label, in a line."""
    x = 2 * GAP
    for label, colour in zip(LABELS, LABEL_COLOURS, strict=True):
        draw.rectangle((x, 12, x + 16, 28), colour)
        draw.text((x + 22, 20), label, INK, font(15), anchor="lm")
        x += 22 + int(draw.textlength(label, font(15))) + 20
    draw.text((x + GAP, 20), "each: image, truth, answer", FAINT, font(15), anchor="lm")


def draw_answer(image: Image.Image, corner: tuple[int, int], answer: Answer) -> None:
    """The three pictures of a scene, and below them what is largest and what was said of it."""
    x, y = corner
    scene = answer.scene
    pictures = (scene.image, coloured(scene.label_map), coloured(answer.label_map))
    for index, picture in enumerate(pictures):
        image.paste(Image.fromarray(picture), (x + index * (SIZE + 2), y))
    draw = ImageDraw.Draw(image)
    hit = answer.largest == scene.largest
    agreed = float((answer.label_map == scene.label_map).mean())
    line = y + SIZE + CAPTION // 2
    draw.text((x, line), f"largest: {scene.kind}", INK, font(14), anchor="lm")
    said = f"said: {KINDS[answer.largest]}; {agreed:.1%} of pixels right"
    draw.text((x + SIZE + 2, line), said, RIGHT if hit else WRONG, font(14), anchor="lm")


def coloured(label_map: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Each label in its colour."""
    return np.array(LABEL_COLOURS, np.uint8)[label_map]


def blend(
    one: tuple[int, int, int], other: tuple[int, int, int], part: float
) -> tuple[int, int, int]:
    """A colour on the way from one to the other."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, so that the pictures look alike everywhere."""
    return ImageFont.load_default(size)
