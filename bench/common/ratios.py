"""The median of paired ratios and its confidence interval."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class MedianInterval(NamedTuple):
    """A median and the limits of its confidence interval; NaN limits if the samples are too few."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.median:.3f} (too few rounds for an interval)"
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def paired_ratio(new: Sequence[float], old: Sequence[float]) -> MedianInterval:
    """Return the median of new / old over rounds, each ratio taken within one round."""
    return median_interval([a / b if b else math.nan for a, b in zip(new, old, strict=True)])


def median_interval(values: Sequence[float]) -> MedianInterval:
    """Return the median of independent samples with a 95 % confidence interval.

    The limits are order statistics, which need no assumption about the distribution: the k-th
    smallest and the k-th largest sample, with the largest k for which the interval holds the true
    median with a probability of at least 95 % (binomial distribution with p = 1/2; see Conover,
    Practical Nonparametric Statistics, 3.2). It needs six samples; 15 give k = 4 and 96.5 %.
    """
    if not values or any(map(math.isnan, values)):
        return MedianInterval(math.nan, math.nan, math.nan)
    ordered, rank = sorted(values), order_rank(len(values))
    middle = statistics.median(ordered)
    if not rank:
        return MedianInterval(middle, math.nan, math.nan)
    return MedianInterval(middle, ordered[rank - 1], ordered[-rank])


def order_rank(count: int) -> int:
    """Return the rank k of the interval's limits; 0 if there are too few samples."""
    rank, outside = 0, 0.0
    for below in range(count // 2):
        outside += 2 * math.comb(count, below) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        rank = below + 1
    return rank
