"""Owns what a burst of requests shows: goodput, refusals, whether they foretold the wait, recovery.

Knows nothing of how the requests were sent: it gets what is kept of each.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from bench.serving.records import LOST, Record
from bench.serving.summary import percentile

JITTER = 1.25  # the mean of what a predicted wait is multiplied with: 1 to 1.5, evenly
SLOW = 1.5  # times what 95 % of the requests before the burst took at most
CALM = 5  # requests in a row that are not slow: latency is back to normal from the first of them


class Times(NamedTuple):
    """When the burst began and ended, on the records' clock."""

    begins: float
    ends: float


class Prediction(NamedTuple):
    """What refusals said over what those waited who were admitted at that time.

    Attributes:
        ratios: retry_after_ms over the wait, for each refusal.
        within: the share within a factor of two when the mean jitter is taken out.
        possible: the share that some jitter from 1 to 1.5 would explain: ratios from 0.5 to 3.
        certain: the share within a factor of two whatever the jitter was: from 0.75 to 2.
    """

    ratios: Sequence[float]
    within: float
    possible: float
    certain: float


class Recovery(NamedTuple):
    """When latency was normal again, in seconds; NaN if it never was.

    Attributes:
        after_burst: from the last request of the burst.
        after_backlog: from the answer to the last that was admitted in it; 0 if it was before.
        backlog: from the one to the other.
    """

    after_burst: float
    after_backlog: float
    backlog: float


def during(records: Sequence[Record], times: Times) -> list[Record]:
    """The requests that were due in the burst."""
    return [one for one in records if times.begins <= one.due < times.ends]


def goodput(records: Sequence[Record], times: Times) -> float:
    """Images answered with 200 per second of the burst, by when the answer was there."""
    good = sum(one.status == 200 and times.begins <= one.ended < times.ends for one in records)
    return good / (times.ends - times.begins)


def refused(records: Sequence[Record]) -> list[Record]:
    """Those that were not let in."""
    return [one for one in records if one.status == 503 and one.code == "overloaded"]


def admitted(records: Sequence[Record]) -> list[Record]:
    """Those that were let in: answered, or given up at their deadline."""
    return [one for one in records if one.status in (200, 504)]


def others(records: Sequence[Record]) -> dict[str, int]:
    """How many were answered with anything else, or lost, by what they were answered."""
    counts: dict[str, int] = {}
    usual = {*map(id, refused(records)), *map(id, admitted(records))}
    for one in records:
        if id(one) not in usual:
            name = "lost" if one.status == LOST else f"{one.status} {one.code}".strip()
            counts[name] = counts.get(name, 0) + 1
    return counts


def complete(one: Record) -> bool:
    """Whether a refusal says all that it should, and the same in the header as in the body."""
    ceiling = math.ceil(one.retry_after_ms / 1e3) if one.retry_after_ms >= 0 else math.nan
    return one.problem and one.retry_after_s == ceiling


def prediction(records: Sequence[Record], times: Times) -> Prediction:
    """Compare what each refusal said with how long those took who were admitted around it.

    The wait of a request admitted at that instant is taken from the one sent last before the
    refused one and the one sent first after it, in proportion to how near each is.
    """
    let_in = sorted((one.sent, one.latency_ms) for one in admitted(records))
    ratios = [
        one.retry_after_ms / between(let_in, one.sent)
        for one in refused(during(records, times))
        if let_in and one.retry_after_ms >= 0
    ]
    return Prediction(
        ratios,
        share(ratios, 0.5 * JITTER, 2 * JITTER),
        share(ratios, 0.5, 2 * 1.5),
        share(ratios, 0.5 * 1.5, 2),
    )


def between(points: Sequence[tuple[float, float]], at: float) -> float:
    """The value at a time, on the straight line between its neighbours; beyond all, the last's."""
    place = bisect_left(points, (at, -math.inf))
    if place in (0, len(points)):
        return points[min(place, len(points) - 1)][1]
    (early, first), (late, second) = points[place - 1], points[place]
    return first + (second - first) * (at - early) / (late - early)


def share(values: Sequence[float], low: float, high: float) -> float:
    """The part of the values from low to high; NaN of none."""
    return sum(low <= value <= high for value in values) / len(values) if values else math.nan


def normal_ms(records: Sequence[Record], times: Times) -> float:
    """The latency that 95 % of the requests before the burst did not pass."""
    before = [one.latency_ms for one in records if one.due < times.begins and one.status == 200]
    return percentile(before, 0.95)


def recovery(records: Sequence[Record], times: Times) -> Recovery:
    """When the few requests that come after the burst are as quick again as those before it."""
    limit = SLOW * normal_ms(records, times)
    after = sorted(one for one in records if one.due >= times.ends)
    calm = [one.status == 200 and one.latency_ms <= limit for one in after]
    runs = (n for n in range(len(calm) - CALM + 1) if all(calm[n : n + CALM]))
    first = next(runs, None)
    normal = math.nan if first is None else after[first].due
    let_in = admitted(during(records, times))
    backlog = max([times.ends, *(one.ended for one in let_in)])
    return Recovery(
        normal - times.ends,
        normal if math.isnan(normal) else max(normal - backlog, 0.0),
        backlog - times.ends,
    )


def per_second(records: Sequence[Record], begins: float, seconds: int) -> list[int]:
    """How many were answered in each second."""
    counts = [0] * seconds
    for one in records:
        if 0 <= (second := math.floor(one.ended - begins)) < seconds:
            counts[second] += 1
    return counts
