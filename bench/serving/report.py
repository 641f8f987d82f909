"""The results of bench.serve as Markdown tables."""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bench.common import machine
from bench.common.cpu import MAX_FOREIGN_SHARE
from bench.serving import summary
from bench.serving.histograms import ServerFigures
from bench.serving.summary import Load, LoopFigures, Measurement, Round

CORES = os.cpu_count() or 1
Column = tuple[str, str, Callable[[Measurement, LoopFigures], float]]
COLUMNS: tuple[Column, ...] = (
    ("images/s", "{:.1f}", lambda one, loop: one.rate),
    ("ratio to the loop", "{:.3f}", lambda one, loop: summary.rate_ratio(one, loop, CORES)),
    ("p50 ms", "{:.2f}", lambda one, loop: one.p50),
    ("p95 ms", "{:.2f}", lambda one, loop: one.p95),
    ("p99 ms", "{:.2f}", lambda one, loop: one.p99),
    ("p99/p50", "{:.2f}", lambda one, loop: summary.tail_ratio(one)),
    ("p50 - single image in the loop, ms", "{:.2f}", summary.overhead_ms),
    ("CPU ms per image", "{:.2f}", lambda one, loop: one.cpu_ms),
    ("CPU ratio to the loop", "{:.2f}", summary.cpu_ratio),
    ("generator, cores", "{:.3f}", lambda one, loop: one.generator),
    ("other processes", "{:.1%}", lambda one, loop: one.foreign),
)


class NetworkResult(NamedTuple):
    """All measurements with one network.

    Attributes:
        network: its name.
        seconds: length of a measurement.
        configs: the bare loop's configurations for throughput and for a single image.
        rounds: the rounds.
        memory: peak memory of each server in MB.
    """

    network: str
    seconds: float
    configs: tuple[str, str]
    rounds: Sequence[Round]
    memory: Mapping[str, float]


def heading() -> list[str]:
    """Return the introduction: the machine, and what the columns mean."""
    return [
        "# The service against the bare loop",
        "",
        f"{machine.cpu()}. Medians over interleaved rounds; ratios are taken within a round. "
        f"A measurement is repeated if other processes used more than {MAX_FOREIGN_SHARE:.0%} of "
        "the machine. The bare loop decodes, resizes and runs the same network on the same "
        "photographs (640 x 480, 75 to 95 kB), with the number of threads and the batch size that "
        "are best for it; for a segmenter it also computes the mask and its PNG. The ratio of "
        "images/s is to what the loop would reach on the cores that the load generator leaves "
        "free. `closed, N`: N clients, each of which sends the next request after a response. "
        "`open, P%`: requests at random times, at this fraction of the server's highest rate in "
        "the closed loops; latencies count from the intended time. MB: the sum of the peak memory "
        "of all processes.",
        "",
    ]


def table(result: NetworkResult) -> list[str]:
    """Return the lines of one network."""
    loops = [one.loop for one in result.rounds]
    rate, cpu_ms, single = map(statistics.median, zip(*loops, strict=True))
    lines = [
        f"## {result.network}",
        "",
        f"The bare loop: {rate:.1f} images/s, {cpu_ms:.2f} ms of CPU per image "
        f"({result.configs[0]}); a single image {single:.2f} ms ({result.configs[1]}). "
        f"{len(loops)} rounds, {result.seconds:g} s per measurement.",
        "",
        f"| server | load | {' | '.join(name for name, _, _ in COLUMNS)} | errors | MB |",
        f"|---|---|{'---|' * (len(COLUMNS) + 2)}",
    ]
    order = list(result.memory)
    measured = result.rounds[0].measurements  # in random order
    for server, load in sorted(measured, key=lambda one: (order.index(one[0]), one[1].fraction)):
        lines.append(row(result, server, load))
    return [*lines, "", *stage_lines(result), ""]


def row(result: NetworkResult, server: str, load: Load) -> str:
    """Return the line of a server under one load."""
    cells = [
        shape.format(summary.median_of(result.rounds, server, load, figure))
        for _, shape, figure in COLUMNS
    ]
    errors = sum(one.measurements[server, load].errors for one in result.rounds)
    memory = f"{result.memory[server]:.0f}"
    return f"| {server} | {load} | {' | '.join([*cells, str(errors), memory])} |"


def stage_lines(result: NetworkResult) -> list[str]:
    """Return a table from the service's own histograms: batch size, milliseconds of each stage."""
    by_load: dict[Load, list[ServerFigures]] = {}
    for one in result.rounds:
        for (_, load), measurement in one.measurements.items():
            if measurement.server is not None:
                by_load.setdefault(load, []).append(measurement.server)
    stages = list(
        dict.fromkeys(stage for many in by_load.values() for one in many for stage in one.stages_ms)
    )
    if not stages:
        return []
    lines = [
        f"| means from /metrics | batch | {' | '.join(f'{stage} ms' for stage in stages)} |",
        f"|---|{'---|' * (len(stages) + 1)}",
    ]
    for load, many in by_load.items():
        batch = statistics.median(one.batch for one in many)
        means = [
            statistics.median(one.stages_ms.get(stage, 0.0) for one in many) for stage in stages
        ]
        lines.append(f"| {load} | {batch:.2f} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return lines
