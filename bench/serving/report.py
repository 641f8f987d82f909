"""Owns how the figures are shown: tables in Markdown.

Knows nothing of how they were measured.
"""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bench.common import machine
from bench.common.cpu import VOID
from bench.serving import summary
from bench.serving.histograms import Inside
from bench.serving.summary import Limit, Load, Round, Turn

CORES = os.cpu_count() or 1
Column = tuple[str, str, Callable[[Turn, Limit], float]]
COLUMNS: tuple[Column, ...] = (
    ("images/s", "{:.1f}", lambda turn, limit: turn.rate),
    ("share of the loop's", "{:.3f}", lambda turn, limit: summary.share(turn, limit, CORES)),
    ("p50 ms", "{:.2f}", lambda turn, limit: turn.p50),
    ("p95", "{:.2f}", lambda turn, limit: turn.p95),
    ("p99", "{:.2f}", lambda turn, limit: turn.p99),
    ("p99/p50", "{:.2f}", lambda turn, limit: summary.tail(turn)),
    ("p50 - the loop's ms", "{:.2f}", summary.overhead_ms),
    ("CPU ms an image", "{:.2f}", lambda turn, limit: turn.cpu_ms),
    ("to the loop's", "{:.2f}", summary.cpu_ratio),
    ("generator, cores", "{:.3f}", lambda turn, limit: turn.generator),
    ("foreign", "{:.1%}", lambda turn, limit: turn.foreign),
)


class Found(NamedTuple):
    """What was measured with one network.

    Attributes:
        seconds: of a turn.
        ways: the bare loop's, for throughput and for a single image.
        memory: the most that each server held, in MB.
    """

    network: str
    seconds: float
    ways: tuple[str, str]
    rounds: Sequence[Round]
    memory: Mapping[str, float]


def heading() -> list[str]:
    """What the tables mean, and the machine."""
    return [
        "# The service against the bare loop",
        "",
        f"{machine.cpu()}. Medians over interleaved rounds; ratios are taken within a round. "
        f"A turn with more than {VOID:.0%} of the machine in others' hands "
        "is repeated. The loop decodes, resizes and runs the same network on the same photographs "
        "(640 x 480, 75 to 95 kB), with the threads and the batch that suit it best; for a "
        "segmenter also the mask and its PNG. The share of its images/s is what a server reaches "
        "of what the loop would on the cores that the generator leaves. In an open loop requests "
        "come at random times, so many as are a part of what the server managed in the closed "
        "ones; latencies count from the intended time. Memory is the sum over processes of the "
        "most that each held.",
        "",
    ]


def table(found: Found) -> list[str]:
    """The lines about one network."""
    limits = [one.limit for one in found.rounds]
    rate, cpu_ms, alone = map(statistics.median, zip(*limits, strict=True))
    lines = [
        f"## {found.network}",
        "",
        f"The loop: {rate:.1f} images/s, {cpu_ms:.2f} ms of CPU an image ({found.ways[0]}); a "
        f"single image {alone:.2f} ms ({found.ways[1]}). {len(limits)} rounds, in turns of "
        f"{found.seconds:g} s.",
        "",
        f"| server | load | {' | '.join(name for name, _, _ in COLUMNS)} | errors | MB |",
        f"|---|---|{'---|' * (len(COLUMNS) + 2)}",
    ]
    order = list(found.memory)
    asked = found.rounds[0].turns  # in another order than they are shown
    for server, load in sorted(asked, key=lambda one: (order.index(one[0]), one[1].part)):
        lines.append(row(found, server, load))
    return [*lines, "", *explained(found), ""]


def row(found: Found, server: str, load: Load) -> str:
    """A server's line under one load."""
    cells = [
        shape.format(summary.median_of(found.rounds, server, load, figure))
        for _, shape, figure in COLUMNS
    ]
    errors = sum(one.turns[server, load].errors for one in found.rounds)
    memory = f"{found.memory[server]:.0f}"
    return f"| {server} | {load} | {' | '.join([*cells, str(errors), memory])} |"


def explained(found: Found) -> list[str]:
    """What the service's own histograms say: the batch size, and each stage's milliseconds."""
    insides: dict[Load, list[Inside]] = {}
    for one in found.rounds:
        for (_, load), turn in one.turns.items():
            if turn.inside is not None:
                insides.setdefault(load, []).append(turn.inside)
    stages = list(
        dict.fromkeys(s for many in insides.values() for one in many for s in one.stages_ms)
    )
    if not stages:
        return []
    lines = [
        f"| by /metrics, means | batch | {' | '.join(f'{stage} ms' for stage in stages)} |",
        f"|---|{'---|' * (len(stages) + 1)}",
    ]
    for load, many in insides.items():
        batch = statistics.median(one.batch for one in many)
        means = [
            statistics.median(one.stages_ms.get(stage, 0.0) for one in many) for stage in stages
        ]
        lines.append(f"| {load} | {batch:.2f} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return lines
