"""Owns how the figures are shown: a table in Markdown for each network.

Knows nothing of how they were measured.
"""

import os
import statistics
from collections.abc import Callable, Sequence

from bench.serving import figures
from bench.serving.figures import Limit, Load, Round, Turn
from bench.serving.raw_loop import Way

Column = tuple[str, str, Callable[[Turn, Limit], float]]
CORES = os.cpu_count() or 1
COLUMNS: tuple[Column, ...] = (
    ("images/s", "{:.1f}", lambda turn, limit: turn.rate),
    ("share", "{:.3f}", lambda turn, limit: figures.throughput_share(turn, limit, CORES)),
    ("p50 ms", "{:.2f}", lambda turn, limit: turn.p50),
    ("p95", "{:.2f}", lambda turn, limit: turn.p95),
    ("p99", "{:.2f}", lambda turn, limit: turn.p99),
    ("p99/p50", "{:.2f}", lambda turn, limit: figures.tail(turn)),
    ("p50 - raw", "{:.2f}", figures.overhead_ms),
    ("CPU ms", "{:.2f}", lambda turn, limit: turn.cpu_ms),
    ("CPU ratio", "{:.2f}", figures.cpu_ratio),
    ("generator", "{:.0%}", lambda turn, limit: turn.generator),
    ("foreign", "{:.0%}", lambda turn, limit: turn.foreign),
)


def table(network: str, ways: tuple[Way, Way], rounds: Sequence[Round]) -> list[str]:
    """The lines about one network."""
    limits = [one.limit for one in rounds]
    rate, cpu_ms, alone = (
        statistics.median(getattr(limit, name) for limit in limits)
        for name in ("rate", "cpu_ms", "alone_ms")
    )
    lines = [
        f"## {network}",
        "",
        f"The bare loop: {rate:.1f} images/s and {cpu_ms:.2f} ms of CPU for an image ({ways[0]}); "
        f"alone {alone:.2f} ms an image ({ways[1]}). {len(rounds)} rounds.",
        "",
        f"| server | load | {' | '.join(name for name, _, _ in COLUMNS)} | errors |",
        f"|---|---|{'---|' * (len(COLUMNS) + 1)}",
    ]
    for server, load in rounds[0].turns:
        lines.append(row(rounds, server, load))
    return [*lines, ""]


def row(rounds: Sequence[Round], server: str, load: Load) -> str:
    """A server's line under one load."""
    cells = [
        shape.format(figures.median_of(rounds, server, load, figure))
        for _, shape, figure in COLUMNS
    ]
    errors = sum(one.turns[server, load].errors for one in rounds)
    return f"| {server} | {load} | {' | '.join(cells)} | {errors} |"
