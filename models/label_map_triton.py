"""`models.label_map.label_map` as one Triton kernel for CUDA; needs Triton, a part of CUDA torch.

Each program handles one cell of the logit grid and the pixels between its four corners. It loads
the corner logits once, finds the candidate classes (see `models.label_map`), usually a few, and
interpolates these in registers. Memory traffic is about four reads of each logit and one write of
each pixel: 5 MB and 12 MB for 150 classes at 12 megapixels.
"""

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_LABELS = 1024  # the logits of four corners must fit the registers
ROWS, COLUMNS = 8, 32  # size of a tile, in pixels
# By default, Triton compiles variants for integers equal to 1 and for multiples of 16, which would
# delay the first image of some sizes. The layout of the logits decides which stride is 1.
SIZES = ["num_labels", "h", "w", "row_stride", "height", "width"]
UNALIGNED = ["logits", "class_stride", "column_stride"]
WARPS = 1  # per program: tiles are small, and one warp needs no barrier for a maximum


@triton.jit  # type: ignore[untyped-decorator]
def interpolated(start: tl.tensor, end: tl.tensor, weight: tl.tensor) -> tl.tensor:
    """Interpolate from start to end; rounds as `torch.lerp` does, once, from the nearer end."""
    near = weight < 0.5
    return tl.fma(tl.where(near, weight, weight - 1.0), end - start, tl.where(near, start, end))


@triton.jit  # type: ignore[untyped-decorator]
def pixels(cell: tl.tensor, scale: tl.tensor, size: tl.tensor) -> tl.tensor:
    """Return the range of output positions that covers a cell, with a small margin at each end."""
    first = tl.floor((cell - 0.5) / scale - 0.5).to(tl.int32) - 1
    last = tl.ceil((cell + 0.5) / scale - 0.5).to(tl.int32) + 1
    return tl.maximum(first, 0), tl.minimum(last + 1, size)


@triton.jit  # type: ignore[untyped-decorator]
def cell_weights(
    output: tl.tensor, scale: tl.tensor, size: tl.tensor, cell: tl.tensor
) -> tl.tensor:
    """Return the interpolation weights of output positions, and which positions are in the cell.

    As in torch's interpolate with align_corners=False; each position is in exactly one cell.
    """
    source = (output.to(tl.float32) + 0.5) * scale - 0.5
    inside = (tl.floor(source).to(tl.int32) + 1 == cell) & (output < size)
    return tl.maximum(source, 0.0) - tl.maximum(cell - 1, 0), inside


@triton.jit  # type: ignore[untyped-decorator]
def candidates(nw: tl.tensor, ne: tl.tensor, sw: tl.tensor, se: tl.tensor) -> tl.tensor:
    """Return which classes can win in a cell, given the corner logits, each (classes,).

    If one class is the largest at all corners, only that class, the lowest index of equal ones.
    Otherwise each class whose largest corner logit is at least the smallest corner logit of every
    class.
    """
    smallest = tl.minimum(tl.minimum(nw, ne), tl.minimum(sw, se))
    largest = tl.maximum(tl.maximum(nw, ne), tl.maximum(sw, se))
    can_win = largest >= tl.max(smallest, 0)
    first = tl.argmax(nw, 0)
    agreed = (first == tl.argmax(ne, 0)) & (first == tl.argmax(sw, 0))
    agreed = agreed & (first == tl.argmax(se, 0))
    return tl.where(agreed, tl.arange(0, nw.shape[0]) == first, can_win)


@triton.jit  # type: ignore[untyped-decorator]
def next_class(can_win: tl.tensor, label: tl.tensor) -> tl.tensor:
    """Return the lowest candidate class above `label`, or the number of classes if none is left."""
    classes = tl.arange(0, can_win.shape[0])
    return tl.min(tl.where(can_win & (classes > label), classes, can_win.shape[0]), 0)


@triton.jit  # type: ignore[untyped-decorator]
def edge_logits(west: tl.tensor, east: tl.tensor, weight: tl.tensor) -> tl.tensor:
    """Interpolate a class's logit along one edge of the cell, from the pointers of its two ends."""
    return interpolated(tl.load(west).to(tl.float32), tl.load(east).to(tl.float32), weight)


@triton.jit  # type: ignore[untyped-decorator]
def winners(  # noqa: PLR0913  # a kernel takes no structures
    nw: tl.tensor,  # pointers to the logits of class 0 at the corners
    ne: tl.tensor,
    sw: tl.tensor,
    se: tl.tensor,
    class_stride: tl.tensor,
    can_win: tl.tensor,
    down: tl.tensor,  # (R,) weight of the south edge at each row of pixels
    across: tl.tensor,  # (C,) weight of the east edge at each column of pixels
) -> tl.tensor:
    """Return the best candidate class at each pixel (R, C), the lowest index of equal ones."""
    best = tl.full((down.shape[0], across.shape[0]), -float("inf"), tl.float32)
    won = tl.zeros((down.shape[0], across.shape[0]), tl.int32)
    label = next_class(can_win, -1)
    while label < can_win.shape[0]:
        offset = label * class_stride
        upper = edge_logits(nw + offset, ne + offset, across)  # (C,)
        lower = edge_logits(sw + offset, se + offset, across)
        value = interpolated(upper[None, :], lower[None, :], down[:, None])  # (R, C)
        won = tl.where(value > best, label, won)
        best = tl.maximum(value, best)
        label = next_class(can_win, label)
    return won


@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=SIZES, do_not_specialize_on_alignment=UNALIGNED
)
def paint(  # noqa: PLR0913  # a kernel takes no structures
    logits: tl.tensor,  # (num_labels, h, w) with the strides below
    labels: tl.tensor,  # (height, width), contiguous
    num_labels: tl.tensor,
    h: tl.tensor,
    w: tl.tensor,
    class_stride: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    down: tl.tensor,  # rows of the logit grid per row of pixels
    across: tl.tensor,  # columns of the logit grid per column of pixels
    CLASSES: tl.constexpr,  # the smallest power of two that is at least num_labels
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Write the labels of all pixels in this program's cell."""
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
    can_win = known & candidates(nw, ne, sw, se)
    top, bottom = pixels(row, down, height)
    left, right = pixels(column, across, width)
    for y in range(top, bottom, ROWS):
        rows = y + tl.arange(0, ROWS)
        y_weight, y_inside = cell_weights(rows, down, height, row)
        for x in range(left, right, COLUMNS):
            columns = x + tl.arange(0, COLUMNS)
            x_weight, x_inside = cell_weights(columns, across, width, column)
            won = winners(
                north + west, north + east, south + west, south + east,
                class_stride, can_win, y_weight, x_weight,
            )  # fmt: skip
            pointers = labels + rows[:, None] * width + columns[None, :]
            inside = y_inside[:, None] & x_inside[None, :]
            tl.store(pointers, won.to(labels.dtype.element_ty), inside)


def fused_label_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn logits (num_labels, h, w) into a label map (H, W) of class indices on the same device.

    Equals `models.label_map.label_map` up to the rounding of single products. Fastest if the logits
    of one position are contiguous.

    Raises:
        ValueError: there are more than 1024 labels.
    """
    num_labels, h, w = logits.shape
    if num_labels > MAX_LABELS:
        raise ValueError(f"{num_labels} labels are more than the kernel's {MAX_LABELS}")
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
        enable_fp_fusion=False,  # both cells at a pixel must compute the same source position
    )
    return labels
