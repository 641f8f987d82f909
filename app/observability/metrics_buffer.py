"""A buffer of observations: cheap to append to, added to the Prometheus series later."""

from bisect import bisect_left
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from threading import Lock
from typing import Any, TypeVar

from prometheus_client import Counter, Histogram

Series = Counter | Histogram
Item = TypeVar("Item")


class MetricsBuffer:
    """Observations that are not in their series yet, by series and label values.

    prometheus-client makes five Python calls for an observation, and ten if replicas share files,
    and an image needs ten observations. Recording here only appends to a list. One thread records;
    any thread may flush.
    """

    def __init__(self) -> None:
        self._amounts: defaultdict[tuple[Any, ...], list[float]] = defaultdict(list)
        self._mappings: defaultdict[tuple[Any, ...], list[Mapping[str, float]]] = defaultdict(list)
        self._lock = Lock()

    def record(self, amount: float, series: Series, *labels: str) -> None:
        """Record an amount to increase a counter by, or an observation of a histogram."""
        self._amounts[series, *labels].append(amount)

    def record_all(self, amounts: Mapping[str, float], series: Series, *labels: str) -> None:
        """Record several amounts; the key of each is the value of the last label."""
        self._mappings[series, *labels].append(amounts)

    def flush(self) -> None:
        """Add everything recorded since the last flush to the series."""
        with self._lock:
            for (series, *labels), mappings in list(self._mappings.items()):
                taken = _take(mappings)
                for last in dict.fromkeys(chain.from_iterable(taken)):
                    add(
                        series.labels(*labels, last), [each[last] for each in taken if last in each]
                    )
            for (series, *labels), recorded in list(self._amounts.items()):
                amounts = _take(recorded)
                if amounts:
                    add(series.labels(*labels) if labels else series, amounts)


def _take(items: list[Item]) -> list[Item]:
    taken = items[:]  # the recording thread may append more meanwhile
    del items[: len(taken)]
    return taken


def add(series: Series, amounts: Sequence[float]) -> None:
    """Do the same as `inc` or `observe` with each amount, in one step.

    A histogram has no public method for this; a test names the private parts that are used.
    """
    if isinstance(series, Counter):
        series.inc(sum(amounts))
        return
    series._sum.inc(sum(amounts))
    buckets = Counts(bisect_left(series._upper_bounds, amount) for amount in amounts)
    for bucket, count in buckets.items():
        series._buckets[bucket].inc(count)
