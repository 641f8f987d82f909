"""Owns the label map of a GPU: `models.label_map.label_map` as one kernel of Triton.

Knows nothing of networks, images or files. Needs Triton, which torch for CUDA brings.

A program has one cell of the grid of logits, and the pixels between its four corners. It loads the
logits of the corners once, finds the classes that can win there (see `models.label_map`), a few as
a rule, and interpolates only those, each pixel in a register. So memory sees each logit some four
times and each pixel once: 5 MB and 12 MB for 150 classes at 12 megapixels.
"""

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_LABELS = 1024  # the logits of four corners are registers
ROWS, COLUMNS = 8, 32  # of a tile of pixels
WARPS = 1  # of a program: the tiles are small, and one warp needs no barrier to find a maximum


@triton.jit  # type: ignore[untyped-decorator]
def interpolated(start: tl.tensor, end: tl.tensor, weight: tl.tensor) -> tl.tensor:
    """From start to end, rounded as `torch.lerp` does: from the nearer one, and once."""
    near = weight < 0.5
    return tl.fma(tl.where(near, weight, weight - 1.0), end - start, tl.where(near, start, end))


@triton.jit  # type: ignore[untyped-decorator]
def pixels(cell: tl.tensor, scale: tl.tensor, size: tl.tensor) -> tl.tensor:
    """Between which output positions the members of a cell lie, with some others at either end."""
    first = tl.floor((cell - 0.5) / scale - 0.5).to(tl.int32) - 1
    last = tl.ceil((cell + 0.5) / scale - 0.5).to(tl.int32) + 1
    return tl.maximum(first, 0), tl.minimum(last + 1, size)


@triton.jit  # type: ignore[untyped-decorator]
def places(output: tl.tensor, scale: tl.tensor, size: tl.tensor, cell: tl.tensor) -> tl.tensor:
    """How far output positions lie behind the cell's lower corner, and which are in the cell.

    As torch's interpolate places them, without aligned corners; each is in exactly one cell.
    """
    source = (output.to(tl.float32) + 0.5) * scale - 0.5
    inside = (tl.floor(source).to(tl.int32) + 1 == cell) & (output < size)
    return tl.maximum(source, 0.0) - tl.maximum(cell - 1, 0), inside


@triton.jit  # type: ignore[untyped-decorator]
def survivors(nw: tl.tensor, ne: tl.tensor, sw: tl.tensor, se: tl.tensor) -> tl.tensor:
    """Which classes can win between corners of those logits, each (classes,).

    The one that is largest at all four, the lowest among equals; else those that are at one corner
    what another class is at all of them.
    """
    smallest = tl.minimum(tl.minimum(nw, ne), tl.minimum(sw, se))
    largest = tl.maximum(tl.maximum(nw, ne), tl.maximum(sw, se))
    alive = largest >= tl.max(smallest, 0)
    first = tl.argmax(nw, 0)
    agreed = (first == tl.argmax(ne, 0)) & (first == tl.argmax(sw, 0))
    agreed = agreed & (first == tl.argmax(se, 0))
    return tl.where(agreed, tl.arange(0, nw.shape[0]) == first, alive)


@triton.jit  # type: ignore[untyped-decorator]
def next_class(alive: tl.tensor, label: tl.tensor) -> tl.tensor:
    """The lowest class alive above that one; beyond all of them when there is none."""
    classes = tl.arange(0, alive.shape[0])
    return tl.min(tl.where(alive & (classes > label), classes, alive.shape[0]), 0)


@triton.jit  # type: ignore[untyped-decorator]
def between(west: tl.tensor, east: tl.tensor, weight: tl.tensor) -> tl.tensor:
    """The logit of a class on one edge of the cell, from where it lies at either end."""
    return interpolated(tl.load(west).to(tl.float32), tl.load(east).to(tl.float32), weight)


@triton.jit  # type: ignore[untyped-decorator]
def winners(  # noqa: PLR0913  # a kernel takes no structures
    nw: tl.tensor,  # where the logits of the corners lie
    ne: tl.tensor,
    sw: tl.tensor,
    se: tl.tensor,
    class_stride: tl.tensor,
    alive: tl.tensor,
    down: tl.tensor,  # (R,) how far pixels are from north to south
    across: tl.tensor,  # (C,) and from west to east
) -> tl.tensor:
    """The best of the classes alive at each pixel (R, C), the lowest among equals."""
    best = tl.full((down.shape[0], across.shape[0]), -float("inf"), tl.float32)
    won = tl.zeros((down.shape[0], across.shape[0]), tl.int32)
    label = next_class(alive, -1)
    while label < alive.shape[0]:
        place = label * class_stride
        upper = between(nw + place, ne + place, across)  # (C,)
        lower = between(sw + place, se + place, across)
        value = interpolated(upper[None, :], lower[None, :], down[:, None])  # (R, C)
        won = tl.where(value > best, label, won)
        best = tl.maximum(value, best)
        label = next_class(alive, label)
    return won


@triton.jit(do_not_specialize=["height", "width"])  # type: ignore[untyped-decorator]
def paint(  # noqa: PLR0913  # a kernel takes no structures
    logits: tl.tensor,  # (num_labels, h, w) by the strides below
    labels: tl.tensor,  # (height, width), contiguous
    num_labels: tl.tensor,
    h: tl.tensor,
    w: tl.tensor,
    class_stride: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    down: tl.tensor,  # rows of the grid to a row of pixels
    across: tl.tensor,
    CLASSES: tl.constexpr,  # the power of two from num_labels on
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Write the label of each pixel in the cell of this program."""
    column, row = tl.program_id(0), tl.program_id(1)
    north = logits + tl.maximum(row - 1, 0) * row_stride
    south = logits + tl.minimum(row, h - 1) * row_stride
    west = tl.maximum(column - 1, 0) * column_stride
    east = tl.minimum(column, w - 1) * column_stride
    classes = tl.arange(0, CLASSES)
    known, each = classes < num_labels, classes * class_stride
    nw = tl.load(north + west + each, known, -float("inf")).to(tl.float32)
    ne = tl.load(north + east + each, known, -float("inf")).to(tl.float32)
    sw = tl.load(south + west + each, known, -float("inf")).to(tl.float32)
    se = tl.load(south + east + each, known, -float("inf")).to(tl.float32)
    alive = known & survivors(nw, ne, sw, se)
    top, bottom = pixels(row, down, height)
    left, right = pixels(column, across, width)
    for y in range(top, bottom, ROWS):
        rows = y + tl.arange(0, ROWS)
        y_weight, y_inside = places(rows, down, height, row)
        for x in range(left, right, COLUMNS):
            columns = x + tl.arange(0, COLUMNS)
            x_weight, x_inside = places(columns, across, width, column)
            won = winners(
                north + west, north + east, south + west, south + east,
                class_stride, alive, y_weight, x_weight,
            )  # fmt: skip
            there = labels + rows[:, None] * width + columns[None, :]
            inside = y_inside[:, None] & x_inside[None, :]
            tl.store(there, won.to(labels.dtype.element_ty), inside)


def fused_label_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn logits (num_labels, h, w) into the class index of each pixel (H, W), where they lie.

    As `models.label_map.label_map`, to the rounding of single products. Quickest where the classes
    of a position lie side by side. ValueError for more than 1024 labels.
    """
    num_labels, h, w = logits.shape
    if num_labels > MOST_LABELS:
        raise ValueError(f"{num_labels} labels are too many for one program")
    dtype = torch.uint8 if num_labels <= 256 else torch.int16
    labels = torch.empty(size, dtype=dtype, device=logits.device)
    down, across = (float(np.float32(n) / np.float32(m)) for n, m in zip((h, w), size, strict=True))
    paint[(w + 1, h + 1)](
        logits,
        labels,
        num_labels,
        h,
        w,
        *logits.stride(),
        *size,
        down,
        across,
        triton.next_power_of_2(num_labels),
        ROWS,
        COLUMNS,
        num_warps=WARPS,
        enable_fp_fusion=False,  # a pixel's place must be the same number in both its cells
    )
    return labels
