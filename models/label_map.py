"""From a segmenter's logits to a label map of the image's size, without resizing every class.

Resizing all classes and taking the argmax needs 7 GB for 150 classes at 12 megapixels. A resized
pixel is a convex combination of the logits at the four corners of its cell in the logit grid, so:

- if the same class is the largest at all four corners, it wins in the whole cell;
- otherwise a class can win only if its largest corner logit reaches the maximum over all classes of
  the smallest corner logit. Only these candidates are interpolated, for a bounded number of pixels
  at a time. Of 150 classes there are about 3 where regions meet, and 20 in white noise.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Pixels interpolated at once, logits compared at once: fit a CPU's cache, justify a kernel launch.
_BLOCK = {"cpu": (1 << 18, 1 << 20), "cuda": (1 << 22, 1 << 24)}
_MIN_CELLS = 64  # cells interpolated at once, whatever their size: the contiguous dimension


class _Axis(NamedTuple):
    """One dimension of the resize; a cell is the interval between two adjacent source positions.

    There is one more cell than positions: in the first and last cell both ends are the same.
    """

    low: Tensor  # (cells,) source position at the lower end of the cell
    high: Tensor  # (cells,) source position at the upper end
    cell: Tensor  # (size,) cell of each output position
    weight: Tensor  # (size,) weight of `high` at each output position
    members: Tensor  # (span, cells) output positions in each cell, padded by repeating the last
    empty: Tensor  # (cells,) whether the cell has no output position


class _Candidates(NamedTuple):
    """The classes that can win in each of n cells, which are sorted by descending class count.

    Rank k holds the k-th class of the first m cells, which have more than k candidates, and the
    logits of that class at the cell's corners.
    """

    y: Tensor  # (n,) row of the cell
    x: Tensor  # (n,) column of the cell
    ranks: list[tuple[Tensor, Tensor]]  # [(m,), (4, m)]


@torch.no_grad()
def label_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn logits (num_labels, h, w) into a label map (H, W) of class indices on the same device.

    Equals bilinear resizing (align_corners=False) and argmax. Of equal classes the lowest index
    wins. Half precision is resized in float32: after rounding back to half precision, adjacent
    classes would be equal in one pixel of a hundred.

    Returns:
        uint8 for up to 256 labels, int16 for more.

    Raises:
        ValueError: there are more than 32768 labels.
    """
    num_labels, h, w = logits.shape
    if num_labels > 1 << 15:
        raise ValueError(f"{num_labels} labels do not fit the 16 bits of a label map")
    rows, columns = _axis(h, size[0], logits.device), _axis(w, size[1], logits.device)
    values = logits.flatten(1).T.float().contiguous()  # (h * w, num_labels)
    labels = values.max(1).indices.to(torch.uint8 if num_labels <= 256 else torch.int16)
    first, undecided = _compare_corners(labels.view(h, w), rows, columns)
    painted = first.index_select(1, columns.cell).index_select(0, rows.cell)  # (H, W)
    pixels, compared = _BLOCK[logits.device.type]
    cell_size = len(rows.members) * len(columns.members)
    at_once = max(1, min(max(pixels // cell_size, _MIN_CELLS), compared // (4 * num_labels)))
    for start in range(0, len(undecided), at_once):
        candidates = _candidates(values, undecided[start : start + at_once], rows, columns)
        _paint(painted, candidates, rows, columns, pixels)
    return painted


def _axis(length: int, size: int, device: torch.device) -> _Axis:
    """Map `size` output positions to `length` source positions as torch's interpolate does."""
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


def _compare_corners(labels: Tensor, rows: _Axis, columns: _Axis) -> tuple[Tensor, Tensor]:
    """Return the label of each cell's first corner (h+1, w+1), and the cells whose corners differ.

    The cells are flat indices. Cells without output positions are left out.
    """
    at_low, at_high = labels[rows.low], labels[rows.high]  # (h+1, w)
    first = at_low[:, columns.low]  # (h+1, w+1)
    mixed = (first != at_low[:, columns.high]) | (first != at_high[:, columns.low])
    mixed |= first != at_high[:, columns.high]
    mixed &= ~(rows.empty[:, None] | columns.empty)
    return first, mixed.flatten().nonzero()[:, 0]


def _candidates(values: Tensor, cells: Tensor, rows: _Axis, columns: _Axis) -> _Candidates:
    """Find the classes that can win somewhere in the cells; `values` is (h * w, num_labels)."""
    y, x = cells // len(columns.low), cells % len(columns.low)
    width = len(columns.low) - 1
    north, south = rows.low[y] * width, rows.high[y] * width
    west, east = columns.low[x], columns.high[x]
    corners = torch.stack([north + west, north + east, south + west, south + east])  # (4, n)
    nw, ne, sw, se = (values.index_select(0, corner) for corner in corners)  # (n, num_labels)
    largest = nw.maximum(ne).maximum(sw.maximum(se))
    smallest = nw.minimum(ne).minimum(sw.minimum(se))
    can_win = largest >= smallest.amax(1, keepdim=True)  # (n, num_labels)
    cell, classes = can_win.nonzero().T.contiguous()  # by cell, then by class, both ascending
    bounds = torch.searchsorted(cell, torch.arange(len(cells) + 1, device=cell.device))
    count, order = bounds.diff().sort(descending=True)
    start, corners = bounds[order], corners[:, order] * values.shape[1]
    reach = (count > torch.arange(int(count[0]), device=count.device)[:, None]).sum(1).tolist()
    ranks = []
    for rank, m in enumerate(reach):
        kth = classes.take(start[:m] + rank)
        ranks.append((kth.float(), values.take(corners[:, :m] + kth)))
    return _Candidates(y[order], x[order], ranks)


def _paint(
    painted: Tensor, candidates: _Candidates, rows: _Axis, columns: _Axis, pixels: int
) -> None:
    """Write the labels of the candidates' cells in place, a few rows of each cell at a time."""
    right = columns.members[:, candidates.x]  # (C, n)
    for members in rows.members.split(max(1, pixels // right.numel())):
        down = members[:, None, candidates.y]  # (R, 1, n)
        winners = _winners(candidates.ranks, rows.weight[down], columns.weight[right])
        places = down * len(columns.cell) + right  # (R, C, n)
        painted.view(-1).scatter_(0, places.flatten(), winners.to(painted.dtype).flatten())


def _winners(ranks: list[tuple[Tensor, Tensor]], down: Tensor, right: Tensor) -> Tensor:
    """Interpolate the candidates with weights (R, 1, n) and (C, n); return the best (R, C, n).

    Class indices are float32, which is exact in this range: torch vectorises `gt`, `lerp` and
    `maximum` for it, while a `where` over bytes takes fifteen times as long.
    """
    # not torch.broadcast_shapes, which imports sympy at its first call: 2 s
    best = torch.full((len(down), *right.shape), -torch.inf, device=down.device)  # (R, C, n)
    winners = torch.zeros_like(best)
    for classes, (nw, ne, sw, se) in ranks:
        m = len(classes)
        top, bottom = nw.lerp(ne, right[:, :m]), sw.lerp(se, right[:, :m])  # (C, m)
        value = top.lerp(bottom, down[..., :m])  # (R, C, m)
        best_so_far, winner = best[..., :m], winners[..., :m]
        better = torch.gt(value, best_so_far, out=torch.empty_like(value))  # 0 or 1
        winner.lerp_(classes.expand_as(value), better)
        torch.maximum(value, best_so_far, out=best_so_far)
    return winners
