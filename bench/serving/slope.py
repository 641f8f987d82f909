"""The slope of a time series and its confidence interval."""

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

BLOCKS = 16
CONFIDENCE = 0.95


class Slope(NamedTuple):
    """A slope per unit of time, and the limits of its 95 % confidence interval."""

    value: float
    low: float
    high: float


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit a straight line to samples that are correlated in time.

    Neighboring samples of memory are similar, so the interval for independent samples would be
    far too narrow. Therefore the samples are averaged in 16 blocks of equal time (batch means), the
    line is fitted to the means by ordinary least squares, and the interval is Student's with 14
    degrees of freedom. It is widened by the remaining correlation r of neighboring blocks
    (n (1 - r) / (1 + r) blocks count).

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
    correlation = min(max(autocorrelation(residuals), 0.0), 0.9)
    margin = student(freedom) * error * math.sqrt((1 + correlation) / (1 - correlation))
    return Slope(line.slope, line.slope - margin, line.slope + margin)


def block_means(times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the mean time and value of each block that has samples."""
    if not times:
        return []
    begins, length = times[0], (times[-1] - times[0]) / BLOCKS or 1.0
    blocks: list[list[tuple[float, float]]] = [[] for _ in range(BLOCKS)]
    for at, value in zip(times, values, strict=True):
        blocks[min(int((at - begins) / length), BLOCKS - 1)].append((at, value))
    return [
        (statistics.fmean(at for at, _ in block), statistics.fmean(value for _, value in block))
        for block in blocks
        if block
    ]


def autocorrelation(residuals: Sequence[float]) -> float:
    """Return the correlation of each residual with the next one."""
    squares = sum(r * r for r in residuals)
    if not squares:
        return 0.0
    return sum(a * b for a, b in pairwise(residuals)) / squares


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, by Hill's expansion (1970).

    The error is below 0.1 % from 5 degrees of freedom on.
    """
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    n = freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3
