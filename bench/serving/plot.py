"""Owns the picture of the figures: latency against load, for each server and network.

Knows nothing of how they were measured.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.serving.report import Found
from bench.serving.summary import Turn, median_of


def draw(founds: Sequence[Found], file: Path) -> None:
    """p50, and p99 dashed, against images a second; a point for each concurrency, and a ring for
    each open loop.
    """
    from matplotlib.figure import Figure  # only who draws needs it

    figure = Figure(figsize=(6 * len(founds), 5), layout="constrained")
    for axis, found in zip(figure.subplots(1, len(founds), squeeze=False)[0], founds, strict=True):
        curves(axis, found)
        rate = statistics.median(one.limit.rate for one in found.rounds)
        axis.axvline(rate, color="black", linewidth=0.8)
        axis.annotate("the loop", (rate, axis.get_ylim()[1]), rotation=90, va="top", ha="right")
        axis.set_xlim(left=0)
        axis.set_title(found.network)
        axis.set_xlabel("images/s")
        axis.set_ylabel("ms: p50, dashed p99")
        axis.grid(visible=True, which="both", alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def curves(axis: Any, found: Found) -> None:
    """One colour for each server."""
    loads = dict.fromkeys(load for _, load in found.rounds[0].turns)
    for number, server in enumerate(found.memory):
        colour = f"C{number}"
        for name, style in (("p50", "-"), ("p99", "--")):
            closed = sorted(load for load in loads if load.concurrency)
            points = [point(found, server, load, name) for load in closed]
            label = server if name == "p50" else None
            axis.semilogy(*zip(*points, strict=True), style, marker=".", color=colour, label=label)
            for load in (one for one in loads if one.part):
                axis.semilogy(*point(found, server, load, name), "o", mfc="none", color=colour)


def point(found: Found, server: str, load: Any, name: str) -> tuple[float, float]:
    """Images a second, and one percentile in milliseconds."""

    def latency(turn: Turn, limit: object) -> float:
        return float(getattr(turn, name))

    return (
        median_of(found.rounds, server, load, lambda turn, limit: turn.rate),
        median_of(found.rounds, server, load, latency),
    )
