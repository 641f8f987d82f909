"""The plot of bench.soak: memory, latency and responses over time."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common.axes import plain_log_scale
from bench.soaking.report import SoakResult

WIDTH, HEIGHT, DPI = 8.0, 8.5, 100
MEAN_OVER_S = 10  # responses are drawn as means over this time
RESPONSES = (  # index in the fields of a second, and the label
    (1, "expected results (200)"),
    (3, "expected errors, disconnects and probes"),
    (2, "refused (503 overloaded)"),
)
LATENCIES = ((5, "median latency of results"), (6, "99th percentile of their latency"))


def draw(result: SoakResult, file: Path) -> None:
    """Draw three panels over the minutes of the run, and one legend below them."""
    from matplotlib.figure import Figure  # only plots need it

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    memory, latency, responses = figure.subplots(3, 1, sharex=True)
    minutes = [one.at / 60 for one in result.samples]
    memory.plot(minutes, [one.rss for one in result.samples], color="C4", label="resident memory")
    memory.set_ylabel("resident memory, MB")
    memory.set_title(growth(result), fontsize=10)
    draw_latencies(latency, result)
    draw_responses(responses, result)
    responses.set_xlim(0, minutes[-1])
    for axis in (memory, latency, responses):
        warm_up = axis.axvspan(0, result.warm_up, color="black", alpha=0.06)
        axis.grid(visible=True, alpha=0.3)
    warm_up.set_label("warm-up")
    handles = [handle for axis in figure.axes for handle in axis.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
    figure.savefig(file, dpi=DPI)


def growth(result: SoakResult) -> str:
    """Return the slope of the memory with its interval."""
    rise = result.rise
    return (
        f"memory after the warm-up: {rise.value:+.3f} MB per minute "
        f"(95 % interval {rise.low:+.3f} to {rise.high:+.3f})"
    )


def draw_latencies(axis: Any, result: SoakResult) -> None:
    """Draw both percentiles of each second."""
    at = [second[0] / 60 for second in result.seconds]
    for (place, label), color in zip(LATENCIES, ("C9", "C1"), strict=True):
        values = [second[place] for second in result.seconds]
        axis.plot(at, values, linewidth=0.8, color=color, label=label)
    plain_log_scale(axis)
    axis.set_ylabel("latency in\neach second, ms")


def draw_responses(axis: Any, result: SoakResult) -> None:
    """Draw the rate of each outcome as means over some seconds."""
    for (place, label), color in zip(RESPONSES, ("C0", "C8", "C2"), strict=True):
        at, rates = means(result.seconds, place)
        axis.step(at, rates, where="post", linewidth=1, color=color, label=label)
    at, rates = means(result.seconds, 4)
    label = f"unexpected responses: {result.unexpected}"
    axis.step(at, rates, where="post", color="red", label=label)
    axis.set_ylim(bottom=-2)
    axis.set_ylabel(f"responses per second,\nmeans of {MEAN_OVER_S} s")
    axis.set_xlabel("minutes")


def means(seconds: Sequence[Sequence[float]], place: int) -> tuple[list[float], list[float]]:
    """Return the start of each block of seconds in minutes, and the mean of a field in it."""
    blocks: dict[int, list[float]] = {}
    for second in seconds:
        blocks.setdefault(math.floor(second[0] / MEAN_OVER_S), []).append(second[place])
    at = [number * MEAN_OVER_S / 60 for number in blocks]
    return at, [statistics.fmean(values) for values in blocks.values()]
