"""Owns the arithmetic of the figures: percentiles, the two ratios, medians over rounds.

Knows nothing of how anything was measured.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bench.serving.histograms import Inside


class Load(NamedTuple):
    """How a server is asked: by so many who wait for their answers, or at random times, so many
    requests a second, given as a part of what it managed when as many as it liked were waiting.
    """

    concurrency: int = 0
    part: float = 0.0

    def __str__(self) -> str:
        return f"closed, {self.concurrency}" if self.concurrency else f"open, {self.part:.0%}"


class Turn(NamedTuple):
    """What one server did under one load.

    Attributes:
        rate: answers a second.
        p50, p95, p99: milliseconds.
        errors: answers that were none, or wrong.
        cpu_ms: processor time of all its processes, for one answer.
        generator: cores that asking took.
        foreign: the share of the machine that neither had.
        inside: what the server says itself, if it does.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    errors: int
    cpu_ms: float
    generator: float
    foreign: float
    inside: Inside | None = None


class Limit(NamedTuple):
    """The bare loop: images a second, milliseconds of processor time for one, and the milliseconds
    of one by the clock when nothing else is to be done.
    """

    rate: float
    cpu_ms: float
    alone_ms: float


class Round(NamedTuple):
    """What was measured within seconds of each other."""

    limit: Limit
    turns: Mapping[tuple[str, Load], Turn]


def percentile(values: Sequence[float], part: float) -> float:
    """The least value that so large a part of all are not above (nearest rank); NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)]


def share(turn: Turn, limit: Limit, cores: int) -> float:
    """Images a second over what the loop would do with the cores that asking left."""
    return turn.rate / (limit.rate * (cores - turn.generator) / cores)


def cpu_ratio(turn: Turn, limit: Limit) -> float:
    """Processor time for an image over that of the loop."""
    return turn.cpu_ms / limit.cpu_ms


def overhead_ms(turn: Turn, limit: Limit) -> float:
    """What the median answer took longer than one image in the loop."""
    return turn.p50 - limit.alone_ms


def tail(turn: Turn) -> float:
    """p99 over p50."""
    return turn.p99 / turn.p50 if turn.p50 else math.nan


def median_of(
    rounds: Sequence[Round], server: str, load: Load, figure: Callable[[Turn, Limit], float]
) -> float:
    """The median, over rounds, of a figure of a server under a load; NaN where it never ran.

    A ratio is taken within a round first: whatever slowed the machine down then slowed both.
    """
    found = [
        figure(turn, one.limit)
        for one in rounds
        if (turn := one.turns.get((server, load))) is not None
    ]
    return statistics.median(found) if found else math.nan
