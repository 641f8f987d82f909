"""Owns when requests arrive that wait for nobody: at random times, or evenly, in phases.

Knows nothing of who sends them.
"""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Phase(NamedTuple):
    """A stretch of an open loop: so many requests a second for so long.

    Attributes:
        even: they come at equal distances, and not at random times.
    """

    rate: float
    seconds: float
    even: bool = False


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Seconds at which requests arrive independently of each other, `rate` of them a second."""
    source = random.Random(seed)  # noqa: S311  # not a secret
    at = source.expovariate(rate)
    while at < seconds:
        yield at
        at += source.expovariate(rate)


def arrivals(phases: Sequence[Phase], seed: int) -> Iterator[tuple[float, int]]:
    """When each request of all phases is due, in seconds from the first, and the phase's number."""
    begins = 0.0
    for number, phase in enumerate(phases):
        if phase.even:
            times = (n / phase.rate for n in range(round(phase.rate * phase.seconds)))
        else:
            times = poisson(phase.rate, phase.seconds, seed + number)
        yield from ((begins + at, number) for at in times)
        begins += phase.seconds
