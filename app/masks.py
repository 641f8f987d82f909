"""Owns the way from a label map to what a caller gets: PNGs, run lengths, statistics.

Knows nothing of how the label map came about.
"""

import json
import zlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
RENDERS = ("mask", "color", "overlay")

OVERLAY_OPACITY = 0.5
# Runs of one byte are all that there is to find in a mask: half the time of zlib's default strategy
# and half the size. Even overlays come out smaller so, as their filtered rows are mostly noise.
COMPRESSION = {"compress_level": 1, "compress_type": zlib.Z_RLE}


def palette(count: int) -> NDArray[np.uint8]:
    """The colours of `count` classes, uint8 (count, 3), as PASCAL VOC draws them: 0 is black.

    The bits of the index are dealt to red, green and blue in turn, from the highest bit down.
    """
    index = np.arange(count)[:, None]
    bit = np.arange(8)
    dealt = [((index >> (3 * bit + channel)) & 1) << (7 - bit) for channel in range(3)]
    return np.stack([bits.sum(axis=1) for bits in dealt], axis=1).astype(np.uint8)


def render(
    label_map: LabelMap, labels: tuple[str, ...], how: str, rgb: Image.Image | None = None
) -> bytes:
    """Draw a label map as a PNG file of its size.

    Args:
        label_map: (H, W), the class of each pixel; uint16 above 256 labels.
        labels: the name of each class, written into the text chunk `labels`.
        how: `mask` has the class index as pixel value (a palette image, or 16-bit grey above 256
            labels), `color` the class's colour, `overlay` that colour laid over `rgb`.
        rgb: the photograph, of the same size; needed for `overlay`.
    """
    if how == "mask":
        image = _mask(label_map, len(labels))
    else:
        image = _colors(label_map, len(labels))
        if how == "overlay":
            if rgb is None:
                raise ValueError("an overlay needs the photograph")
            image = Image.blend(rgb, image, OVERLAY_OPACITY)
    table = PngInfo()
    table.add_itxt("labels", json.dumps(dict(enumerate(labels)), ensure_ascii=False))
    file = BytesIO()
    image.save(file, "PNG", pnginfo=table, **COMPRESSION)
    return file.getvalue()


def _mask(label_map: LabelMap, count: int) -> Image.Image:
    if count > 256:
        return Image.fromarray(label_map.astype(np.uint16))
    image = Image.fromarray(label_map.astype(np.uint8))
    image.putpalette(palette(256).tobytes())  # all of it: a short one would be packed below 8 bits
    return image


def _colors(label_map: LabelMap, count: int) -> Image.Image:
    if count > 256:
        return Image.fromarray(palette(count)[label_map])
    return _mask(label_map, count).convert("RGB")


def statistics(label_map: LabelMap, labels: tuple[str, ...]) -> list[dict[str, object]]:
    """What occurs in a label map, largest first: label, index, area, fraction, bbox and rle."""
    runs = column_runs(label_map)
    areas = np.bincount(*runs)  # not of the pixels: that would take eight bytes for each
    present = sorted(np.flatnonzero(areas), key=lambda index: (-areas[index], index))
    return [
        {
            "label": labels[index],
            "index": int(index),
            "area": int(areas[index]),
            "fraction": float(areas[index] / label_map.size),
            "bbox": bounding_box(label_map == index),
            "rle": {"size": label_map.shape, "counts": run_lengths(*runs, int(index))},
        }
        for index in present
    ]


def bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The (x, y, width, height) in pixels of what is true in (H, W); there must be something."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def column_runs(label_map: LabelMap) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The runs of equal labels down the columns: labels and lengths, each int64 (runs,)."""
    columns = label_map.ravel(order="F")
    starts = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    starts = np.insert(starts, 0, 0)
    return columns[starts].astype(np.int64), np.diff(starts, append=columns.size)


def run_lengths(labels: NDArray[np.int64], lengths: NDArray[np.int64], index: int) -> str:
    """One class's runs as COCO writes a binary mask: lengths off, on, off, ... from the first on.

    Each length is the difference to the one two before it, in groups of five bits, lowest first, a
    sixth bit saying that more follow, each group a character from `0` on (pycocotools' format).
    """
    on = labels == index
    merged = np.flatnonzero(np.diff(on.astype(np.int8), prepend=-1))
    counts = np.add.reduceat(lengths, merged)
    if on[0]:
        counts = np.insert(counts, 0, 0)
    counts[3:] -= counts[1:-2].copy()
    characters = []
    for count in counts.tolist():
        more = True
        while more:
            group, count = count & 0x1F, count >> 5
            more = count != (-1 if group & 0x10 else 0)
            characters.append(chr(48 + (group | (0x20 if more else 0))))
    return "".join(characters)
