"""Arrival times of an open loop: random or evenly spaced, in phases."""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Phase(NamedTuple):
    """A part of an open loop with a constant rate.

    Attributes:
        rate: requests per second.
        seconds: duration.
        even: whether arrivals are evenly spaced instead of random.
    """

    rate: float
    seconds: float
    even: bool = False


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield the arrival times of a Poisson process, in seconds, with `rate` arrivals per second."""
    source = random.Random(seed)  # noqa: S311  # not a secret
    at = source.expovariate(rate)
    while at < seconds:
        yield at
        at += source.expovariate(rate)


def arrivals(phases: Sequence[Phase], seed: int) -> Iterator[tuple[float, int]]:
    """Yield the arrival time of each request, in seconds from the start, and its phase's index."""
    begins = 0.0
    for number, phase in enumerate(phases):
        if phase.even:
            times = (n / phase.rate for n in range(round(phase.rate * phase.seconds)))
        else:
            times = poisson(phase.rate, phase.seconds, seed + number)
        yield from ((begins + at, number) for at in times)
        begins += phase.seconds
