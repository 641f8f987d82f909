"""Converts a label map to PNG files, run-length encodings and statistics."""

import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.core.types import LabelMap
from app.imaging.overlay import Overlay, draw_overlay
from app.imaging.palettes import hex_color, in_color, palette, with_palette
from app.imaging.png import encode_png

Positions = NDArray[np.int64]
RENDERS = ("mask", "color", "overlay")
# time per pixel, in decoded pixels of an ordinary JPEG: of the PNG by style, of the label map, and
# of the confidence
RENDER_WORK = {"mask": 1.0, "color": 4.6, "overlay": 20.0, "confidence": 4.0}
LABEL_MAP_WORK, LABEL_MAP_WORK_PER_LABEL = 1.4, 0.36
CONFIDENCE_WORK, CONFIDENCE_WORK_PER_LABEL = 3.0, 0.04

# zlib searches runs of one byte only. For a mask this takes half the time of its default strategy
# and gives half the size. Overlays get smaller too, because their filtered rows are mostly noise.
COMPRESSION = {"compress_level": 1, "compress_type": zlib.Z_RLE}


def work_per_pixel(style: str, labels: int, *, confidence: bool = False) -> float:
    """Expected time of the label map and its PNG file, in decoded pixels of an ordinary JPEG.

    Args:
        style: of `RENDER_WORK`.
        labels: number of labels.
        confidence: whether the confidence is computed, too.
    """
    work = RENDER_WORK[style] + LABEL_MAP_WORK + LABEL_MAP_WORK_PER_LABEL * labels
    return work + confidence * (CONFIDENCE_WORK + CONFIDENCE_WORK_PER_LABEL * labels)


def render(
    label_map: LabelMap,
    labels: tuple[str, ...],
    style: str,
    rgb: Image.Image | None = None,
    overlay: Overlay = Overlay(),  # noqa: B008  # it cannot change
) -> bytes:
    """Draw a label map as a PNG file of its size.

    Args:
        label_map: (H, W), the class of each pixel; uint16 above 256 labels.
        labels: the name of each class, written into the text chunk `labels`.
        style: `mask` has the class index as pixel value (a palette image, or 16-bit gray above 256
            labels), `color` has the class's color, `overlay` blends that color with `rgb`.
        rgb: the photograph, of the same size; required for `overlay`, which is drawn into it.
        overlay: how that is drawn.

    Raises:
        ValueError: an overlay without the photograph.
    """
    if style == "mask":
        image = _mask(label_map, labels)
    elif style == "color":
        image = in_color(label_map, palette(labels))
    elif rgb is None:
        raise ValueError("an overlay needs the photograph")
    else:
        image = draw_overlay(label_map, palette(labels), rgb, overlay)
    names = json.dumps(dict(enumerate(labels)), ensure_ascii=False)
    return encode_png(image, {"labels": names}, **COMPRESSION)


def _mask(label_map: LabelMap, labels: tuple[str, ...]) -> Image.Image:
    if len(labels) > 256:
        return Image.fromarray(label_map.astype(np.uint16))
    return with_palette(label_map, palette(labels))


def statistics(label_map: LabelMap, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """The classes in a label map, largest first: label, index, color, area and so on."""
    runs, colors = column_runs(label_map), palette(labels)
    areas = {index: int(lengths.sum()) for index, (_, lengths) in runs.items()}
    return [
        {
            "label": labels[index],
            "index": index,
            "color": hex_color(colors[index]),
            "area": areas[index],
            "fraction": areas[index] / label_map.size,
            "bbox": bounding_box(*runs[index], label_map.shape[0]),
            "rle": {"size": label_map.shape, "counts": run_lengths(*runs[index], label_map.size)},
        }
        for index in sorted(areas, key=lambda index: (-areas[index], index))
    ]


def column_runs(label_map: LabelMap) -> dict[int, tuple[Positions, Positions]]:
    """The column-wise runs of each class in a label map: their start positions and lengths.

    Positions count pixels down the columns, one column after the other, and ascend.
    """
    columns = label_map.ravel(order="F")
    starts = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    starts = np.insert(starts, 0, 0)
    lengths, classes = np.diff(starts, append=columns.size), columns[starts]
    order = np.argsort(classes, kind="stable")
    present, first = np.unique(classes[order], return_index=True)
    grouped = [np.split(values[order], first[1:]) for values in (starts, lengths)]
    return dict(zip(present.tolist(), zip(*grouped, strict=True), strict=True))


def bounding_box(starts: Positions, lengths: Positions, height: int) -> tuple[int, int, int, int]:
    """The bounding box (x, y, width, height), in pixels, of one class's runs in `height` rows."""
    ends = starts + lengths - 1
    left, right = int(starts[0]) // height, int(ends[-1]) // height
    top, bottom = 0, height - 1
    if (starts // height == ends // height).all():  # no run continues in the next column
        top, bottom = int((starts % height).min()), int((ends % height).max())
    return left, top, right - left + 1, bottom - top + 1


def run_lengths(starts: Positions, lengths: Positions, size: int) -> str:
    """One class's runs in COCO's compressed RLE: lengths off, on, off, ... of `size` pixels.

    From the fourth on, a length is stored as the difference to the length two before it. A number
    is written in groups of five bits, lowest first; a sixth bit marks that more groups follow, and
    each group is a character, counted from `0` (the format of pycocotools).
    """
    ends = starts + lengths
    counts = np.empty(2 * len(starts) + 1, np.int64)
    counts[0], counts[1::2] = starts[0], lengths
    counts[2::2] = np.append(starts[1:], size) - ends
    if counts[-1] == 0:  # the mask ends with a run of the class
        counts = counts[:-1]
    counts[3:] -= counts[1:-2].copy()
    return _to_characters(counts)


def _to_characters(counts: Positions) -> str:
    spread = np.where(counts < 0, ~counts, counts)  # magnitudes; the groups also hold a sign bit
    most = int(spread.max()).bit_length() // 5 + 1
    group = np.arange(most)
    used = spread[:, None] >= np.array([0, *(1 << 5 * k - 1 for k in group[1:].tolist())])
    more = np.pad(used[:, 1:], ((0, 0), (0, 1)))
    characters = 48 + (counts[:, None] >> 5 * group & 0x1F | more << 5)  # (counts, most)
    return characters[used].astype(np.uint8).tobytes().decode("ascii")
