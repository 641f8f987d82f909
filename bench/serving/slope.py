"""Owns the slope of what was sampled over time, and how far it can be trusted.

Knows nothing of what was sampled.
"""

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

BLOCKS = 16
CONFIDENCE = 0.95


class Slope(NamedTuple):
    """A rise per unit of time, and the interval that holds the true one 19 times in 20."""

    value: float
    low: float
    high: float


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """The slope of a straight line through samples that resemble their neighbours.

    Memory that is high now is likely high in the next second too, so samples are not independent
    and the textbook's interval is far too narrow. The samples are therefore taken together in
    16 blocks of equal time (batch means), the line goes through their means by ordinary least
    squares, the interval is Student's with 14 degrees of freedom, and it is widened by what the
    residuals of neighbouring blocks still have in common (n (1 - r) / (1 + r) blocks count).

    Raises:
        ValueError: the samples do not fill three blocks.
    """
    means = block_means(times, values)
    if len(means) < 3:
        raise ValueError(f"{len(times)} samples are too few for a slope")
    line = statistics.linear_regression(*zip(*means, strict=True))
    middle = statistics.fmean(at for at, _ in means)
    spread = math.sqrt(sum((at - middle) ** 2 for at, _ in means))
    residuals = [value - line.intercept - line.slope * at for at, value in means]
    freedom = len(means) - 2
    error = math.sqrt(sum(r * r for r in residuals) / freedom) / spread
    alike = min(max(likeness(residuals), 0.0), 0.9)
    reach = student(freedom) * error * math.sqrt((1 + alike) / (1 - alike))
    return Slope(line.slope, line.slope - reach, line.slope + reach)


def block_means(times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """The mean time and value of each block that has samples."""
    if not times:
        return []
    begins, long = times[0], (times[-1] - times[0]) / BLOCKS or 1.0
    blocks: list[list[tuple[float, float]]] = [[] for _ in range(BLOCKS)]
    for at, value in zip(times, values, strict=True):
        blocks[min(int((at - begins) / long), BLOCKS - 1)].append((at, value))
    return [
        (statistics.fmean(at for at, _ in block), statistics.fmean(value for _, value in block))
        for block in blocks
        if block
    ]


def likeness(residuals: Sequence[float]) -> float:
    """The correlation of each residual with the next one."""
    squares = sum(r * r for r in residuals)
    if not squares:
        return 0.0
    return sum(a * b for a, b in pairwise(residuals)) / squares


def student(freedom: int) -> float:
    """How many errors the interval reaches to each side: Student's t, by Hill's expansion (1970),
    to 0.1 % from 5 degrees of freedom on.
    """
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    n = freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3
