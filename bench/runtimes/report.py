"""Owns how a race's figures are shown: tables in Markdown, and a picture.

Knows nothing of how they were measured.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.runtimes.contenders import INSTALLED
from bench.runtimes.race import Figures

BASE = "transformers"  # what ratios are to
REFERENCE = BASE + INSTALLED  # the same without our settings, in a race of those with them


class Standing(NamedTuple):
    """The figures of one network and batch: as installed, and with our allocator settings."""

    network: str
    batch: int
    installed: Mapping[str, Figures]
    tuned: Mapping[str, Figures]


class Yardstick(NamedTuple):
    """What a figure is held against: the FLOPs of an image as published, and by contender those
    that it executes, as far as they are ours to know, and its peak, in FLOP/s.
    """

    flops: int
    executed: Mapping[str, int]
    peaks: Mapping[str, float]


def median(figures: Mapping[str, Figures], name: str) -> float | None:
    """The median seconds of a batch, where there is one."""
    return statistics.median(figures[name].seconds) if taken(figures, name) else None


def taken(figures: Mapping[str, Figures], name: str) -> bool:
    """Whether the contender ran in that race."""
    return name in figures and not figures[name].error and bool(figures[name].seconds)


def ratio(figures: Mapping[str, Figures], name: str, base: str = BASE) -> str:
    """How many times as fast as the base, by the medians of one race."""
    ours, theirs = median(figures, name), median(figures, base)
    return f"{theirs / ours:.2f}" if ours and theirs else ""


def timing(figures: Mapping[str, Figures], name: str, batch: int) -> list[str]:
    """Images per second, and milliseconds of a batch: median, quartiles, least."""
    if not taken(figures, name):
        return ["", figures[name].error[:60] if name in figures else ""]
    low, middle, high = statistics.quantiles(figures[name].seconds, n=4)
    least = min(figures[name].seconds)
    in_ms = f"{middle * 1e3:.1f} ({low * 1e3:.1f} to {high * 1e3:.1f}; {least * 1e3:.1f})"
    return [f"{batch / middle:.1f}", in_ms]


def row(standing: Standing, name: str, yardstick: Yardstick) -> str:
    """One contender's line."""
    cells = [str(standing.batch), name]
    cells += [*timing(standing.installed, name, standing.batch), ratio(standing.installed, name)]
    cells += [*timing(standing.tuned, name, standing.batch), ratio(standing.tuned, name)]
    cells.append(ratio(standing.tuned, name, REFERENCE))
    best = [
        seconds
        for figures in (standing.installed, standing.tuned)
        if (seconds := median(figures, name))
    ]
    rate = standing.batch / min(best) / yardstick.peaks[name] if best else 0.0
    cells += [f"{rate * flops:.0%}" for flops in (yardstick.flops, yardstick.executed[name])]
    found = {**standing.installed, **standing.tuned}[name]
    return f"| {' | '.join([*cells, f'{found.difference:.0e}'])} |"


def table(standings: Sequence[Standing], yardstick: Yardstick) -> list[str]:
    """The lines about one network: a heading and a table."""
    folded = min(yardstick.executed.values())
    lines = [
        f"## {standings[0].network}",
        "",
        f"{yardstick.flops / 1e9:.1f} GFLOP an image as published, {folded / 1e9:.1f} folded.",
        "",
        "| batch | | images/s | ms | ratio "
        "| images/s, allocator set | ms, allocator set | ratio, both set | ratio, theirs not set "
        "| of peak | executed, of peak | logits off by |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for standing in standings:
        names = [n for n in {**standing.installed, **standing.tuned} if n != REFERENCE]
        lines += [row(standing, name, yardstick) for name in names]
    return [*lines, ""]


def draw(standings: Sequence[Standing], file: Path) -> None:
    """A bar for each contender: how many times as fast as transformers as installed it is."""
    from matplotlib.figure import Figure  # only who draws needs it

    columns = 2
    rows = -(-len(standings) // columns)
    figure = Figure(figsize=(13, 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, standing in zip(axes, standings, strict=False):
        names = [n for n in {**standing.installed, **standing.tuned} if n != REFERENCE]
        for offset, figures, base, label in (
            (-0.2, standing.installed, BASE, "as installed"),
            (0.2, standing.tuned, REFERENCE, "with our allocator settings"),
        ):
            ratios = [float(ratio(figures, name, base) or 0) for name in names]
            places = [place + offset for place in range(len(names))]
            bars = axis.barh(places, ratios, height=0.4, label=label)
            axis.bar_label(bars, [f"{r:.2f}" if r else "" for r in ratios], padding=2, fontsize=7)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.1)
        axis.set_title(f"{standing.network}, batch {standing.batch}", fontsize=10)
    for axis in list(figure.axes)[len(standings) :]:
        axis.set_axis_off()
    figure.axes[0].legend(fontsize=8)
    figure.suptitle("times as fast as transformers as installed")
    figure.savefig(file, dpi=110)
