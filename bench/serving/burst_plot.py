"""The plot of bench.overload: responses, latency and memory over time."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common.axes import plain_log_scale
from bench.serving import burst
from bench.serving.burst_cases import CaseResult
from bench.serving.records import Record

WIDTH, HEIGHT = 8.0, 8.5  # inches, for each case
DPI = 100


def draw(results: Sequence[CaseResult], file: Path) -> None:
    """Draw three panels for each case, and one legend below all of them."""
    from matplotlib.figure import Figure  # only plots need it

    figure = Figure(figsize=(WIDTH, HEIGHT * len(results)), layout="constrained")
    parts = figure.subfigures(len(results), 1, squeeze=False)[:, 0]
    for part, result in zip(parts, results, strict=True):
        rates, latency, memory = part.subplots(3, 1, sharex=True)
        case = result.case
        rates.set_title(
            f"{case.network}, deadline {case.timeout_s:g} s: {case.factor:g} times the capacity "
            f"for {case.seconds:g} s",
            fontsize=11,
        )
        draw_rates(rates, result)
        draw_latencies(latency, result)
        draw_memory(memory, result)
        for axis in (rates, latency, memory):
            burst_span = axis.axvspan(0, case.seconds, color="black", alpha=0.06)
            axis.grid(visible=True, alpha=0.3)
        handles, labels = rates.get_legend_handles_labels()
        part.legend(
            [*handles, burst_span],
            [*labels, "burst"],
            loc="outside lower center",
            ncols=3,
            fontsize=9,
        )
    figure.savefig(file, dpi=DPI)


def outcomes(result: CaseResult) -> dict[str, list[Record]]:
    """Return all requests by their outcome."""
    ok = [one for one in result.records if one.status == 200]
    refused = burst.refused(result.records)
    seen = {*ok, *refused}
    rest = [one for one in result.records if one not in seen]
    return {"result (200)": ok, "refused (503 overloaded)": refused, "504 and others": rest}


def draw_rates(axis: Any, result: CaseResult) -> None:
    """Draw the responses in each second by outcome, and the capacity."""
    ended = [one.ended - result.times.begins for one in result.records]
    first, last = math.floor(min(ended)), math.ceil(max(ended))
    at = range(first, last)
    for number, (name, records) in enumerate(outcomes(result).items()):
        counts = burst.per_second(records, result.times.begins + first, last - first)
        axis.step(at, counts, where="post", color=f"C{number}", label=name)
    axis.axhline(
        result.capacity, color="black", linewidth=0.8, linestyle="--", label="capacity, images/s"
    )
    axis.set_ylabel("responses per second")


def draw_latencies(axis: Any, result: CaseResult) -> None:
    """Draw each request at the time when it was sent."""
    for number, records in enumerate(outcomes(result).values()):
        sent = [one.sent - result.times.begins for one in records]
        latencies = [one.latency_ms for one in records]
        axis.plot(sent, latencies, ".", markersize=3, color=f"C{number}")
    plain_log_scale(axis)
    axis.set_ylabel("latency of each\nrequest, ms")


def draw_memory(axis: Any, result: CaseResult) -> None:
    """Draw the resident memory."""
    points = [(one.at - result.times.begins, one.rss) for one in result.samples]
    axis.plot(*zip(*points, strict=True), color="C4")
    axis.set_ylim(0, 1.1 * max(rss for _, rss in points))
    axis.set_ylabel("resident memory, MB")
    axis.set_xlabel("seconds from the start of the burst")
