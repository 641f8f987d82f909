"""Traces the regions of each class in a label map as polygons along the edges of pixels.

All classes are traced together. A region consists of pixels that share a side: where two pixels of
a class share only a corner, the ring of each turns back to its own pixel.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.core.errors import InvalidParameter
from app.core.types import LabelMap
from app.imaging.simplify import simplify

Integers = NDArray[np.int64]

MAX_TURNS = 300_000  # a photograph of 12 megapixels has about 130,000
STRIP_PIXELS = 2**20  # of the label map that are searched at once
OUTSIDE = -1  # the class beyond the label map
WORK_PER_PIXEL = 2.0  # time of `polygons`, in decoded pixels of an ordinary JPEG


class Vertices(NamedTuple):
    """Vertices of rings, where a horizontal and a vertical side meet; all arrays are (N,).

    Attributes:
        classes: the class of each vertex's ring.
        x: in pixels from the left edge of the label map.
        y: in pixels from its upper edge.
        right: 1 if the horizontal side is on the right of the vertex, otherwise 0.
        down: 1 if the vertical side is below the vertex, otherwise 0.
        starts: 1 if the ring leaves the vertex on the horizontal side, otherwise 0.
    """

    classes: Integers
    x: Integers
    y: Integers
    right: Integers
    down: Integers
    starts: Integers


class Rings(NamedTuple):
    """Closed rings, ordered by class, then from top to bottom; a hole follows its outer ring.

    Attributes:
        classes: (R,), the class of each ring.
        begins: (R + 1,), the index of each ring's first point, and the number of points.
        points: (P, 2), x and y.
    """

    classes: Integers
    begins: Integers
    points: Integers


def polygons(label_map: LabelMap, tolerance: float) -> dict[int, list[list[int]]]:
    """The rings [x0, y0, x1, y1, ...] of each class, in pixels from the upper left corner.

    As seen in the picture, outer rings are clockwise and holes counterclockwise. A class covers the
    points that are inside an odd number of its rings.

    Args:
        label_map: (H, W), the class of each pixel.
        tolerance: largest distance of a pixel edge from the polygon, in pixels; see `simplify`.

    Raises:
        InvalidParameter: the edges between classes turn or meet at more than `MAX_TURNS` points.
    """
    rings = trace(label_map)
    begins, points = simplify(rings.begins, rings.points, tolerance)
    numbers, ends = points.ravel().tolist(), (2 * begins).tolist()
    found: dict[int, list[list[int]]] = {}
    for label, begin, end in zip(rings.classes.tolist(), ends[:-1], ends[1:], strict=True):
        found.setdefault(label, []).append(numbers[begin:end])
    return found


def trace(label_map: LabelMap) -> Rings:
    """The rings of all classes; their points are the vertices, where the rings change direction.

    The vertices of a class in a row of the grid are, from left to right, the ends of one horizontal
    side after the other, and those in a column the ends of vertical sides. A ring follows both in
    turn.

    Raises:
        InvalidParameter: the edges between classes turn or meet at more than `MAX_TURNS` points.
    """
    vertices = _vertices(label_map)
    height, width = label_map.shape
    classes, x, y, right, down, starts = vertices
    order = np.argsort(((classes * (height + 1) + y) * (width + 1) + x) * 2 + right)
    classes, x, y, _, down, starts = (values[order] for values in vertices)
    order = np.argsort(((classes * (width + 1) + x) * (height + 1) + y) * 2 + down)
    vertical = np.empty_like(order)  # the other end of each vertex's vertical side
    vertical[order] = order.reshape(-1, 2)[:, ::-1].ravel()

    start = 2 * np.arange(len(x) // 2) + starts[1::2]  # of each horizontal side
    sides, begins = _in_cycles(vertical[start ^ 1] // 2)
    order = np.stack([start[sides], start[sides] ^ 1], axis=1).ravel()
    points = np.stack([x[order], y[order]], axis=1)
    return Rings(classes[order[2 * begins[:-1]]], 2 * begins, points)


def _vertices(label_map: LabelMap) -> Vertices:
    found: list[Vertices] = []
    for y, x, pixels in _turns(label_map):
        across, over, opposite = pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1]
        convex = (pixels != across) & (pixels != over) & (pixels != OUTSIDE)
        concave = (pixels != across) & (across == over) & (across == opposite)
        concave &= across != OUTSIDE
        for here, labels, is_concave in ((convex, pixels, False), (concave, across, True)):
            down, right, at = np.nonzero(here)
            starts = (down == right) ^ is_concave
            found.append(Vertices(labels[here], x[at], y[at], right, down, starts.astype(np.int64)))
    return Vertices(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _turns(label_map: LabelMap) -> Iterator[tuple[Integers, Integers, Integers]]:
    """The points of the grid where edges between classes turn or meet, in strips.

    Yields:
        y and x of each point, (N,), and the classes of the four pixels around it, (2, 2, N).
    """
    height, width = label_map.shape
    step, count = max(STRIP_PIXELS // width, 1), 0
    for top in range(0, height + 1, step):
        first, last = max(top - 1, 0), min(top + step, height)
        padding = ((int(top == 0), int(top + step > height)), (1, 1))
        strip = label_map[first:last].astype(np.int16 if label_map.itemsize == 1 else np.int32)
        strip = np.pad(strip, padding, constant_values=OUTSIDE)
        vertical, horizontal = strip[:, 1:] != strip[:, :-1], strip[1:] != strip[:-1]
        turns = (vertical[1:] | vertical[:-1]) & (horizontal[:, 1:] | horizontal[:, :-1])
        count += int(np.count_nonzero(turns))
        if count > MAX_TURNS:
            raise InvalidParameter(
                f"polygons: the edges in this mask turn at more than {MAX_TURNS} points, which is "
                "too many; use the rle of each segment"
            )
        at: Integers = np.flatnonzero(turns)
        y, x = at // (width + 1), at % (width + 1)
        rows, columns = y + np.arange(2)[:, None, None], x + np.arange(2)[:, None]
        yield y + top, x, strip[rows, columns].astype(np.int64)


def _in_cycles(following: Integers) -> tuple[Integers, Integers]:
    """Order the elements of a permutation by cycle.

    Each cycle begins with its smallest element, and the cycles are ordered by it. Pointers are
    doubled, so the number of steps is logarithmic in the length of the longest cycle.

    Args:
        following: the element that follows each element.

    Returns:
        The elements, and the index where each cycle begins, with the number of elements at the end.
    """
    count = len(following)
    smallest, jump = np.arange(count), following
    while (smallest != smallest[following]).any():
        smallest = np.minimum(smallest, smallest[jump])
        jump = jump[jump]
    first = smallest == np.arange(count)
    jump = np.where(first[following], np.arange(count), following)  # the last of a cycle stays
    remaining = (jump != np.arange(count)).astype(np.int64)  # elements between it and the last
    while (jump != jump[jump]).any():
        remaining += remaining[jump]
        jump = jump[jump]
    _, cycle, lengths = np.unique(smallest, return_inverse=True, return_counts=True)
    begins = np.insert(np.cumsum(lengths), 0, 0)
    elements = np.empty(count, np.int64)
    elements[begins[cycle + 1] - 1 - remaining] = np.arange(count)
    return elements, begins
