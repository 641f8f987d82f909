"""Owns the picture of a burst: answers by kind, latency and memory over time.

Knows nothing of how they were measured.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.serving import burst
from bench.serving.burst_cases import Found
from bench.serving.records import Record


def draw(founds: Sequence[Found], file: Path) -> None:
    """A column for each case, from before the burst until all was as before."""
    from matplotlib.figure import Figure  # only who draws needs it

    figure = Figure(figsize=(7 * len(founds), 9), layout="constrained")
    grid = figure.subplots(3, len(founds), squeeze=False, sharex="col")
    for column, found in enumerate(founds):
        answers, latency, memory = (row[column] for row in grid)
        answers.set_title(str(found.case))
        rates(answers, found)
        latencies(latency, found)
        held = [(one.at - found.times.begins, one.rss) for one in found.samples]
        memory.plot(*zip(*held, strict=True))
        memory.set_ylim(0, 1.1 * max(rss for _, rss in held))
        memory.set_ylabel("resident memory, MB")
        memory.set_xlabel("seconds from the begin of the burst")
        for axis in (answers, latency, memory):
            axis.axvspan(0, found.case.seconds, color="black", alpha=0.06)
            axis.grid(visible=True, alpha=0.3)
    figure.savefig(file, dpi=110)


def kinds(found: Found) -> dict[str, list[Record]]:
    """All requests by what became of them."""
    ok = [one for one in found.records if one.status == 200]
    refused = burst.refused(found.records)
    seen = {*ok, *refused}
    rest = [one for one in found.records if one not in seen]
    return {"200": ok, "503 overloaded": refused, "504 and others": rest}


def rates(axis: Any, found: Found) -> None:
    """How many were answered in each second, by kind; the capacity as a line."""
    ended = [one.ended - found.times.begins for one in found.records]
    first, last = math.floor(min(ended)), math.ceil(max(ended))
    at = range(first, last)
    for number, (name, records) in enumerate(kinds(found).items()):
        counts = burst.per_second(records, found.times.begins + first, last - first)
        axis.step(at, counts, where="post", color=f"C{number}", label=name)
    axis.axhline(found.capacity, color="black", linewidth=0.8, linestyle="--", label="capacity")
    axis.set_ylabel("answers a second")
    axis.legend(fontsize=8)


def latencies(axis: Any, found: Found) -> None:
    """Each request at the time it was sent."""
    for number, (name, records) in enumerate(kinds(found).items()):
        if records:
            sent = [one.sent - found.times.begins for one in records]
            taken = [one.latency_ms for one in records]
            axis.semilogy(sent, taken, ".", markersize=3, color=f"C{number}", label=name)
    axis.set_ylabel("latency, ms")
    axis.legend(fontsize=8)
