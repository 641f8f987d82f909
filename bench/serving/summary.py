"""Figures of one server under one load, and their ratios to the bare loop."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bench.serving.histograms import ServerFigures


class Load(NamedTuple):
    """How requests are sent to a server.

    Attributes:
        concurrency: closed loop: clients that each send the next request after a response.
        fraction: open loop: random arrivals at this fraction of the server's highest rate in the
            closed loops.
    """

    concurrency: int = 0
    fraction: float = 0.0

    def __str__(self) -> str:
        return f"closed, {self.concurrency}" if self.concurrency else f"open, {self.fraction:.0%}"


class Measurement(NamedTuple):
    """Figures of one server under one load in one round.

    Attributes:
        rate: responses per second.
        p50, p95, p99: latency in milliseconds.
        errors: requests without a response, or with a wrong one.
        cpu_ms: CPU time of all processes of the server per response.
        generator: cores that the load generator used.
        foreign: fraction of the machine's CPU time used by other processes.
        server: figures from the server's own metrics, if it has any.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    errors: int
    cpu_ms: float
    generator: float
    foreign: float
    server: ServerFigures | None = None


class LoopFigures(NamedTuple):
    """Figures of the bare loop.

    Attributes:
        rate: images per second.
        cpu_ms: CPU time per image.
        single_ms: wall-clock time of a single image.
    """

    rate: float
    cpu_ms: float
    single_ms: float


class Round(NamedTuple):
    """Measurements of one round, which follow each other directly."""

    loop: LoopFigures
    measurements: Mapping[tuple[str, Load], Measurement]


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the nearest-rank percentile; NaN without values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(math.ceil(fraction * len(ordered)) - 1, 0)]


def rate_ratio(measurement: Measurement, loop: LoopFigures, cores: int) -> float:
    """Return images/s as a ratio to the bare loop on the cores that the generator leaves free."""
    return measurement.rate / (loop.rate * (cores - measurement.generator) / cores)


def cpu_ratio(measurement: Measurement, loop: LoopFigures) -> float:
    """Return the CPU time per image as a ratio to the bare loop."""
    return measurement.cpu_ms / loop.cpu_ms


def overhead_ms(measurement: Measurement, loop: LoopFigures) -> float:
    """Return the median latency minus the time of a single image in the bare loop."""
    return measurement.p50 - loop.single_ms


def tail_ratio(measurement: Measurement) -> float:
    """Return p99 over p50."""
    return measurement.p99 / measurement.p50 if measurement.p50 else math.nan


def median_of(
    rounds: Sequence[Round],
    server: str,
    load: Load,
    figure: Callable[[Measurement, LoopFigures], float],
) -> float:
    """Return the median over rounds of a figure of a server under a load; NaN if never measured.

    Ratios are taken within a round, so that a slow machine slows both sides.
    """
    values = [
        figure(measurement, one.loop)
        for one in rounds
        if (measurement := one.measurements.get((server, load))) is not None
    ]
    return statistics.median(values) if values else math.nan
