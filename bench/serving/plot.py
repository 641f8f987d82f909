"""The plot of bench.serve: latency against throughput, for each server and network."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common.axes import plain_log_scale
from bench.serving.report import NetworkResult
from bench.serving.servers import REPLICAS
from bench.serving.summary import Load, median_of

LABELS = {REPLICAS: "patchserve, one replica per core"}
STYLES = {"p50": "-", "p99": "--"}
WIDTH, PANEL_HEIGHT, LEGEND_HEIGHT = 8.0, 3.1, 1.6  # inches
DPI = 100


def draw(results: Sequence[NetworkResult], file: Path) -> None:
    """Draw a panel for each network, at most two in a row, and one legend below all panels."""
    from matplotlib.figure import Figure  # only plots need it

    columns = min(len(results), 2)
    rows = -(-len(results) // columns)
    size = (WIDTH, (PANEL_HEIGHT if columns == 2 else 1.6 * PANEL_HEIGHT) * rows + LEGEND_HEIGHT)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, result in zip(axes, results, strict=False):
        panel(axis, result)
    for axis in axes[len(results) :]:
        axis.set_axis_off()
    figure.legend(handles=legend(results), loc="outside lower center", ncols=2, fontsize=9)
    figure.savefig(file, dpi=DPI)


def panel(axis: Any, result: NetworkResult) -> None:
    """Draw the curves of one network."""
    for number, server in enumerate(result.memory):
        curves(axis, result, server, f"C{number}")
    axis.axvline(statistics.median(one.loop.rate for one in result.rounds), color="black", lw=1)
    axis.set_xlim(left=0)
    plain_log_scale(axis)
    axis.set_title(result.network, fontsize=11)
    axis.set_xlabel("images/s")
    axis.set_ylabel("latency, ms")
    axis.grid(visible=True, alpha=0.3)


def curves(axis: Any, result: NetworkResult, server: str, color: str) -> None:
    """Draw both percentiles of one server."""
    loads = dict.fromkeys(load for _, load in result.rounds[0].measurements)
    closed = sorted(load for load in loads if load.concurrency)
    for percentile, style in STYLES.items():
        points = [point(result, server, load, percentile) for load in closed]
        axis.plot(*zip(*points, strict=True), style, marker=".", color=color)
        filled = color if percentile == "p50" else "none"
        for load in (one for one in loads if one.fraction):
            axis.plot(*point(result, server, load, percentile), "s", mfc=filled, color=color)


def legend(results: Sequence[NetworkResult]) -> list[Any]:
    """Return a line for each server, and one for each kind of mark."""
    from matplotlib.lines import Line2D  # only plots need it

    servers = max((list(result.memory) for result in results), key=len)
    marks = [
        Line2D([], [], color=f"C{number}", lw=3, label=LABELS.get(server, server))
        for number, server in enumerate(servers)
    ]
    gray = {"color": "gray", "marker": "."}
    return [
        *marks,
        Line2D([], [], ls="-", label="median, a point for each number of clients", **gray),
        Line2D([], [], ls="--", label="99th percentile, likewise", **gray),
        Line2D([], [], ls="", marker="s", color="gray", label="median, random arrivals"),
        Line2D(
            [],
            [],
            ls="",
            marker="s",
            mfc="none",
            color="gray",
            label="99th percentile, random arrivals",
        ),
        Line2D([], [], color="black", lw=1, label="images/s of the bare loop without HTTP"),
    ]


def point(result: NetworkResult, server: str, load: Load, name: str) -> tuple[float, float]:
    """Return images per second, and one percentile in milliseconds."""
    return (
        median_of(result.rounds, server, load, lambda one, loop: one.rate),
        median_of(result.rounds, server, load, lambda one, loop: float(getattr(one, name))),
    )
