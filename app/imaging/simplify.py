"""Simplifies rings of points: Douglas and Peucker's algorithm, on many rings at the same time."""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

BATCH = 2**16  # points whose rings are simplified together; the temporary arrays stay in the cache
FORCED = 2  # splits without regard to the distance: a ring keeps at least four of its points
MAX_SPLITS = 40  # of a chain, one after the other; then it keeps its points


def simplify(begins: Integers, points: Integers, tolerance: float) -> tuple[Integers, Integers]:
    """Leave out points of closed rings whose sides are horizontal and vertical.

    No point of a ring is farther than `tolerance` from the side that replaces its part of the ring.
    Up to half a pixel, which is the distance of an edge from the centers of its pixels, no center
    changes sides.

    Args:
        begins: (R + 1,), the index of each ring's first point, and the number of points.
        points: (P, 2), x and y; a ring has at least four.
        tolerance: in pixels; 0 keeps all points.

    Returns:
        The same two arrays of the simplified rings; each ring keeps its first point and at least
        three others.
    """
    if tolerance == 0:
        return begins, points
    kept = np.zeros(len(points), np.bool_)
    batches = np.searchsorted(begins, np.arange(0, begins[-1], BATCH))
    for ring, end in zip(batches, [*batches[1:], len(begins) - 1], strict=True):
        if ring < end:
            first, last = begins[ring], begins[end]
            kept[first:last] = _kept(begins[ring : end + 1] - first, points[first:last], tolerance)
    return np.insert(np.cumsum(kept, dtype=np.int64), 0, 0)[begins], points[kept]


def _kept(begins: Integers, points: Integers, tolerance: float) -> Booleans:
    """Which points of some rings are kept."""
    closed = np.insert(points, begins[1:], points[begins[:-1]], axis=0) @ np.array([1, 1j])
    chain_begins = begins[:-1] + np.arange(len(begins) - 1)
    chain_ends = begins[1:] + np.arange(len(begins) - 1)
    ends = chain_ends
    kept = np.zeros(len(closed), np.bool_)
    kept[chain_begins] = True
    for splits in range(MAX_SPLITS):
        long = chain_ends - chain_begins > 1
        chain_begins, chain_ends = chain_begins[long], chain_ends[long]
        if not long.any():
            break
        middles, distances = _farthest(closed, chain_begins, chain_ends)
        split = (distances > tolerance) | (splits < FORCED)
        chain_begins, middles, chain_ends = chain_begins[split], middles[split], chain_ends[split]
        kept[middles] = True
        chain_begins = np.concatenate([chain_begins, middles])
        chain_ends = np.concatenate([middles, chain_ends])
    else:
        kept[_between(chain_begins, chain_ends)[0]] = True
    return np.delete(kept, ends)


def _farthest(
    points: NDArray[np.complex128], begins: Integers, ends: Integers
) -> tuple[Integers, NDArray[np.float64]]:
    """The point of each chain that is farthest from the line between its ends, and its distance."""
    inner, chain = _between(begins, ends)
    origin, side = points[begins], points[ends] - points[begins]
    length2 = np.maximum((side * side.conj()).real, np.finfo(np.float64).tiny)
    offset = points[inner] - origin[chain]
    along = np.clip((offset * (side.conj() / length2)[chain]).real, 0, 1)
    distances = np.abs(offset - along * side[chain])
    farthest = np.maximum.reduceat(distances, np.searchsorted(chain, np.arange(len(begins))))
    hits = np.flatnonzero(distances == farthest[chain])
    middles = np.empty(len(begins), np.int64)
    middles[chain[hits]] = inner[hits]
    return middles, farthest


def _between(begins: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """The indices of the points inside chains, and the chain of each."""
    lengths = ends - begins - 1
    chain = np.repeat(np.arange(len(begins)), lengths)
    starts = np.cumsum(lengths) - lengths
    return np.arange(len(chain)) + (begins + 1 - starts)[chain], chain
