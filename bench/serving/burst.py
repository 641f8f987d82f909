"""Figures of a burst of requests: goodput, refusals, predicted waits, recovery."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from bench.serving.records import LOST, Record
from bench.serving.summary import percentile

JITTER = 1.25  # mean of the random factor from 1 to 1.5 in `retry_after_ms`
SLOW = 1.5  # a request is slow above this multiple of the 95th percentile before the burst
CALM = 5  # latency is normal from the first of this many consecutive requests that are not slow


class Times(NamedTuple):
    """The start and the end of the burst on the clock of the records."""

    begins: float
    ends: float


class Prediction(NamedTuple):
    """The predicted waits of refusals, relative to real waits at the same time.

    Attributes:
        ratios: retry_after_ms divided by the real wait, for each refusal.
        within: fraction of ratios within a factor of two after division by the mean jitter.
        possible: fraction within a factor of two for some jitter from 1 to 1.5: ratios 0.5 to 3.
        certain: fraction within a factor of two for every jitter: ratios 0.75 to 2.
    """

    ratios: Sequence[float]
    within: float
    possible: float
    certain: float


class Recovery(NamedTuple):
    """The time until latency is normal again, in seconds; NaN if it never is.

    Attributes:
        after_burst: from the end of the burst.
        after_backlog: from the last response to a request accepted in the burst; 0 if latency was
            normal before this response.
        backlog: time from the end of the burst to this last response.
    """

    after_burst: float
    after_backlog: float
    backlog: float


def during(records: Sequence[Record], times: Times) -> list[Record]:
    """Return the requests that were scheduled in the burst."""
    return [one for one in records if times.begins <= one.due < times.ends]


def goodput(records: Sequence[Record], times: Times) -> float:
    """Return the number of responses with 200 that ended in the burst, per second."""
    good = sum(one.status == 200 and times.begins <= one.ended < times.ends for one in records)
    return good / (times.ends - times.begins)


def refused(records: Sequence[Record]) -> list[Record]:
    """Return the requests that were refused at admission."""
    return [one for one in records if one.status == 503 and one.code == "overloaded"]


def accepted(records: Sequence[Record]) -> list[Record]:
    """Return the accepted requests, including requests that missed their deadline."""
    return [one for one in records if one.status in (200, 504)]


def others(records: Sequence[Record]) -> dict[str, int]:
    """Count all other responses, by status and code, and the lost requests."""
    counts: dict[str, int] = {}
    usual = {*map(id, refused(records)), *map(id, accepted(records))}
    for one in records:
        if id(one) not in usual:
            name = "lost" if one.status == LOST else f"{one.status} {one.code}".strip()
            counts[name] = counts.get(name, 0) + 1
    return counts


def complete(one: Record) -> bool:
    """Return whether a refusal is problem+json with `retry_after_ms`, rounded up in Retry-After."""
    ceiling = math.ceil(one.retry_after_ms / 1e3) if one.retry_after_ms >= 0 else math.nan
    return one.problem and one.retry_after_s == ceiling


def prediction(records: Sequence[Record], times: Times) -> Prediction:
    """Compare the predicted wait of each refusal with the waits of accepted requests.

    The real wait is interpolated between the last accepted request sent before the refused one and
    the first accepted request sent after it.
    """
    waits = sorted((one.sent, one.latency_ms) for one in accepted(records))
    ratios = [
        one.retry_after_ms / interpolate(waits, one.sent)
        for one in refused(during(records, times))
        if waits and one.retry_after_ms >= 0
    ]
    return Prediction(
        ratios,
        fraction_between(ratios, 0.5 * JITTER, 2 * JITTER),
        fraction_between(ratios, 0.5, 2 * 1.5),
        fraction_between(ratios, 0.5 * 1.5, 2),
    )


def interpolate(points: Sequence[tuple[float, float]], at: float) -> float:
    """Interpolate linearly at a time; outside all points, return the value of the nearest one."""
    place = bisect_left(points, (at, -math.inf))
    if place in (0, len(points)):
        return points[min(place, len(points) - 1)][1]
    (early, first), (late, second) = points[place - 1], points[place]
    return first + (second - first) * (at - early) / (late - early)


def fraction_between(values: Sequence[float], low: float, high: float) -> float:
    """Return the fraction of values that are from low to high; NaN without values."""
    return sum(low <= value <= high for value in values) / len(values) if values else math.nan


def normal_ms(records: Sequence[Record], times: Times) -> float:
    """Return the 95th percentile of the latency before the burst."""
    before = [one.latency_ms for one in records if one.due < times.begins and one.status == 200]
    return percentile(before, 0.95)


def recovery(records: Sequence[Record], times: Times) -> Recovery:
    """Return when the requests after the burst are as fast as the requests before it."""
    limit = SLOW * normal_ms(records, times)
    after = sorted(one for one in records if one.due >= times.ends)
    calm = [one.status == 200 and one.latency_ms <= limit for one in after]
    runs = (n for n in range(len(calm) - CALM + 1) if all(calm[n : n + CALM]))
    first = next(runs, None)
    normal = math.nan if first is None else after[first].due
    burst = accepted(during(records, times))
    backlog = max([times.ends, *(one.ended for one in burst)])
    return Recovery(
        normal - times.ends,
        normal if math.isnan(normal) else max(normal - backlog, 0.0),
        backlog - times.ends,
    )


def per_second(records: Sequence[Record], begins: float, seconds: int) -> list[int]:
    """Return the number of responses in each second."""
    counts = [0] * seconds
    for one in records:
        if 0 <= (second := math.floor(one.ended - begins)) < seconds:
            counts[second] += 1
    return counts
