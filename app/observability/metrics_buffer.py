"""Owns what was counted and is not shown yet: noted at once for little, added up when it is read.

Knows nothing of which series there are.
"""

from bisect import bisect_left
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from threading import Lock
from typing import Any, TypeVar

from prometheus_client import Counter, Histogram

Series = Counter | Histogram
Noted = TypeVar("Noted")


class MetricsBuffer:
    """Amounts by series and values of its labels.

    prometheus-client takes five calls of Python for each observation, and ten where replicas share
    files, for each of ten an image; to note one is to append to a list. One thread notes, any adds
    up.
    """

    def __init__(self) -> None:
        self._noted: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
        self._mappings: defaultdict[tuple[Any, ...], list[Mapping[str, float]]] = defaultdict(list)
        self._adding = Lock()

    def record(self, amount: float, series: Series, *labels: str) -> None:
        """Let a counter grow by the amount, or a histogram observe it, when `add_up` is called."""
        self._noted[series, *labels].append(amount)

    def record_all(self, amounts: Mapping[str, float], series: Series, *labels: str) -> None:
        """Note each of the amounts, whose key is the value of the last label."""
        self._mappings[series, *labels].append(amounts)

    def flush(self) -> None:
        """Give the series what was noted since the last time."""
        with self._adding:
            for (series, *labels), mappings in list(self._mappings.items()):
                taken = _take(mappings)
                for last in dict.fromkeys(chain.from_iterable(taken)):
                    add(series.labels(*labels, last), [one[last] for one in taken if last in one])
            for (series, *labels), noted in list(self._noted.items()):
                amounts = _take(noted)
                if amounts:
                    add(series.labels(*labels) if labels else series, amounts)


def _take(noted: list[Noted]) -> list[Noted]:
    taken = noted[:]  # more may come, behind them
    del noted[: len(taken)]
    return taken


def add(series: Series, amounts: Sequence[float]) -> None:
    """What `inc` or `observe` of each amount would do, at once."""
    if isinstance(series, Counter):
        series.inc(sum(amounts))
        return
    series._sum.inc(sum(amounts))
    places = Counts(bisect_left(series._upper_bounds, amount) for amount in amounts)
    for place, count in places.items():
        series._buckets[place].inc(count)
