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

from app.core.types import LabelMap

Positions = NDArray[np.int64]
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
    areas = {index: int(lengths.sum()) for index, (_, lengths) in runs.items()}
    return [
        {
            "label": labels[index],
            "index": index,
            "area": areas[index],
            "fraction": areas[index] / label_map.size,
            "bbox": bounding_box(*runs[index], label_map.shape[0]),
            "rle": {"size": label_map.shape, "counts": run_lengths(*runs[index], label_map.size)},
        }
        for index in sorted(areas, key=lambda index: (-areas[index], index))
    ]


def column_runs(label_map: LabelMap) -> dict[int, tuple[Positions, Positions]]:
    """The runs down the columns of each class that occurs: where they start, and their lengths.

    Positions count down one column after the other, from the top left; they ascend.
    """
    columns = label_map.ravel(order="F")
    starts = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    starts = np.insert(starts, 0, 0)
    lengths, classes = np.diff(starts, append=columns.size), columns[starts]
    order = np.argsort(classes, kind="stable")
    present, first = np.unique(classes[order], return_index=True)
    grouped = [np.split(one[order], first[1:]) for one in (starts, lengths)]
    return dict(zip(present.tolist(), zip(*grouped, strict=True), strict=True))


def bounding_box(starts: Positions, lengths: Positions, height: int) -> tuple[int, int, int, int]:
    """The (x, y, width, height) in pixels of the runs of one class in columns of that height."""
    ends = starts + lengths - 1
    left, right = int(starts[0]) // height, int(ends[-1]) // height
    top, bottom = 0, height - 1
    if (starts // height == ends // height).all():  # no run goes from one column into the next
        top, bottom = int((starts % height).min()), int((ends % height).max())
    return left, top, right - left + 1, bottom - top + 1


def run_lengths(starts: Positions, lengths: Positions, size: int) -> str:
    """One class's runs as COCO writes a binary mask: lengths off, on, off, ... of `size` pixels.

    Each length is the difference to the one two before it, in groups of five bits, lowest first, a
    sixth bit saying that more follow, each group a character from `0` on (pycocotools' format).
    """
    ends = starts + lengths
    counts = np.empty(2 * len(starts) + 1, np.int64)
    counts[0], counts[1::2] = starts[0], lengths
    counts[2::2] = np.append(starts[1:], size) - ends
    if counts[-1] == 0:  # it ends with a run of the class
        counts = counts[:-1]
    counts[3:] -= counts[1:-2].copy()
    return _in_characters(counts)


def _in_characters(counts: Positions) -> str:
    spread = np.where(counts < 0, ~counts, counts)  # has to fit the groups beside a bit of sign
    most = int(spread.max()).bit_length() // 5 + 1
    group = np.arange(most)
    used = spread[:, None] >= np.array([0, *(1 << 5 * k - 1 for k in group[1:].tolist())])
    more = np.pad(used[:, 1:], ((0, 0), (0, 1)))
    characters = 48 + (counts[:, None] >> 5 * group & 0x1F | more << 5)  # (counts, most)
    return characters[used].astype(np.uint8).tobytes().decode("ascii")
