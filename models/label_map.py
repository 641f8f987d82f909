"""Owns the way from a segmenter's logits to a label map at the photograph's size.

Knows nothing of networks, images or files: a tensor of logits and a size go in, class indices
come out.

The plain way resizes every class to the photograph and takes the argmax: 7 GB for 150 classes at
12 megapixels. Here a pixel is seen for what it is, a convex combination of the logit vectors at
the four corners of its cell:

- where the four corners agree on the largest class, so does the whole cell: it is painted;
- elsewhere a class can win only if its largest corner reaches the best of the smallest corners.
  Few classes survive that (of 150 about 3 where regions meet, 20 in white noise), and only those
  are evaluated, a bounded block of pixels at a time.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Pixels evaluated at once and logits looked at once: what a cache holds, what pays for a launch.
_BLOCK = {"cpu": (1 << 18, 1 << 20), "cuda": (1 << 22, 1 << 24)}
_NARROW = 64  # cells evaluated at once, however large: they are the contiguous dimension


class _Axis(NamedTuple):
    """One dimension of the resize; a cell lies between two neighbouring source positions.

    There is one cell more than positions: the outermost two see the same position twice.
    """

    low: Tensor  # (cells,) the source position before the cell
    high: Tensor  # (cells,) the one behind it
    cell: Tensor  # (size,) the cell of each output position
    weight: Tensor  # (size,) how far that lies towards `high`
    members: Tensor  # (span, cells) the output positions of each cell, the last repeated as padding
    empty: Tensor  # (cells,) whether there is none


class _Survivors(NamedTuple):
    """The classes that can win in each of n cells; the cells with the most of them come first.

    Rank k holds the k-th class of the first m cells, those that have one, and its corner logits.
    """

    y: Tensor  # (n,) the cell among the rows
    x: Tensor  # (n,) and among the columns
    ranks: list[tuple[Tensor, Tensor]]  # [(m,), (4, m)]


@torch.no_grad()
def label_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn logits (num_labels, h, w) into the class index of each pixel (H, W), where they lie.

    What the bilinear resize (corners not aligned) and the argmax give, the lowest class first
    among equals; uint8 up to 256 labels, int16 above. Half precision is resized in float32:
    rounded to half again, neighbouring classes tie on one pixel in a hundred.
    """
    num_labels, h, w = logits.shape
    if num_labels > 1 << 15:
        raise ValueError(f"{num_labels} labels do not fit the 16 bits of a label map")
    rows, columns = _axis(h, size[0], logits.device), _axis(w, size[1], logits.device)
    values = logits.flatten(1).T.float().contiguous()  # (h * w, num_labels)
    labels = values.max(1).indices.to(torch.uint8 if num_labels <= 256 else torch.int16)
    first, undecided = _paint(labels.view(h, w), rows, columns)
    painted = first.index_select(1, columns.cell).index_select(0, rows.cell)  # (H, W)
    pixels, looked_at = _BLOCK[logits.device.type]
    tile = len(rows.members) * len(columns.members)
    at_once = max(1, min(max(pixels // tile, _NARROW), looked_at // (4 * num_labels)))
    for start in range(0, len(undecided), at_once):
        survivors = _survivors(values, undecided[start : start + at_once], rows, columns)
        _resolve(painted, survivors, rows, columns, pixels)
    return painted


def _axis(length: int, size: int, device: torch.device) -> _Axis:
    """Lay `size` output positions over `length` source positions as torch's interpolate does."""
    source = (torch.arange(size) + 0.5) * (torch.tensor(float(length)) / size) - 0.5
    cell = source.floor().long() + 1
    numbers = torch.arange(length + 1)
    low, high = (numbers - 1).clamp(min=0), numbers.clamp(max=length - 1)
    bounds = torch.searchsorted(cell, torch.arange(length + 2))
    start, count = bounds[:-1], bounds.diff()
    within = torch.arange(int(count.max()))[:, None].minimum(count - 1)
    members = (start + within).clamp(0, size - 1)
    weight = source.clamp(min=0) - low[cell]
    return _Axis(*(t.to(device) for t in (low, high, cell, weight, members, count == 0)))


def _paint(labels: Tensor, rows: _Axis, columns: _Axis) -> tuple[Tensor, Tensor]:
    """Give each cell its first corner's label (h+1, w+1), and say which are in doubt (flat)."""
    at_low, at_high = labels[rows.low], labels[rows.high]  # (h+1, w)
    first = at_low[:, columns.low]  # (h+1, w+1)
    mixed = (first != at_low[:, columns.high]) | (first != at_high[:, columns.low])
    mixed |= first != at_high[:, columns.high]
    mixed &= ~(rows.empty[:, None] | columns.empty)
    return first, mixed.flatten().nonzero()[:, 0]


def _survivors(values: Tensor, cells: Tensor, rows: _Axis, columns: _Axis) -> _Survivors:
    """Find the classes that can win somewhere in the cells; `values` is (h * w, num_labels)."""
    y, x = cells // len(columns.low), cells % len(columns.low)
    width = len(columns.low) - 1
    north, south = rows.low[y] * width, rows.high[y] * width
    west, east = columns.low[x], columns.high[x]
    corners = torch.stack([north + west, north + east, south + west, south + east])  # (4, n)
    nw, ne, sw, se = (values.index_select(0, corner) for corner in corners)  # (n, num_labels)
    largest = nw.maximum(ne).maximum(sw.maximum(se))
    smallest = nw.minimum(ne).minimum(sw.minimum(se))
    alive = largest >= smallest.amax(1, keepdim=True)
    cell, classes = alive.nonzero().T.contiguous()  # cell after cell, ascending in each
    bounds = torch.searchsorted(cell, torch.arange(len(cells) + 1, device=cell.device))
    count, order = bounds.diff().sort(descending=True)
    start, corners = bounds[order], corners[:, order] * values.shape[1]
    reach = (count > torch.arange(int(count[0]), device=count.device)[:, None]).sum(1).tolist()
    ranks = []
    for rank, m in enumerate(reach):
        kth = classes.take(start[:m] + rank)
        ranks.append((kth.float(), values.take(corners[:, :m] + kth)))
    return _Survivors(y[order], x[order], ranks)


def _resolve(
    painted: Tensor, survivors: _Survivors, rows: _Axis, columns: _Axis, pixels: int
) -> None:
    """Overwrite the pixels of the survivors' cells, some rows of each cell at a time."""
    right = columns.members[:, survivors.x]  # (C, n)
    for members in rows.members.split(max(1, pixels // right.numel())):
        down = members[:, None, survivors.y]  # (R, 1, n)
        won = _winners(survivors.ranks, rows.weight[down], columns.weight[right])
        places = down * len(columns.cell) + right  # (R, C, n)
        painted.view(-1).scatter_(0, places.flatten(), won.to(painted.dtype).flatten())


def _winners(ranks: list[tuple[Tensor, Tensor]], down: Tensor, right: Tensor) -> Tensor:
    """Interpolate the surviving classes by weights (R, 1, n) and (C, n): the best one (R, C, n).

    The classes are kept as float32, exact that far, as torch has vectorised `gt`, `lerp` and
    `maximum` for it: a `where` over bytes costs fifteen times as much.
    """
    best = torch.full(
        torch.broadcast_shapes(down.shape, right.shape), -torch.inf, device=down.device
    )
    won = torch.zeros_like(best)
    for classes, (nw, ne, sw, se) in ranks:
        m = len(classes)
        top, bottom = nw.lerp(ne, right[:, :m]), sw.lerp(se, right[:, :m])  # (C, m)
        value = top.lerp(bottom, down[..., :m])  # (R, C, m)
        held, winner = best[..., :m], won[..., :m]
        better = torch.gt(value, held, out=torch.empty_like(value))  # 0 or 1
        winner.lerp_(classes.expand_as(value), better)
        torch.maximum(value, held, out=held)
    return won
