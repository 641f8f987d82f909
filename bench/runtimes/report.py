"""The results of bench.models: Markdown tables, and a plot."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.runtimes.contenders import INSTALLED, PLAIN, SERVED, UNTIL
from bench.runtimes.race import Figures

BASE = "transformers"  # the contender that ratios refer to
BASE_INSTALLED = BASE + INSTALLED  # the same without our allocator settings, in the tuned race
COLUMNS = 3  # panels of a row of the plot
WIDTH, BAR_HEIGHT, DPI = 8.0, 0.26, 100  # inches


class Comparison(NamedTuple):
    """The figures of one network and batch, as installed and with our allocator settings."""

    network: str
    batch: int
    installed: Mapping[str, Figures]
    tuned: Mapping[str, Figures]


class Reference(NamedTuple):
    """The operations of an image and the peak rates that figures are divided by.

    Attributes:
        flops: operations of the published network.
        executed: operations that a contender executes, as far as known, by its name.
        peaks: peak FLOP/s of the contender's dtype, by its name.
    """

    flops: int
    executed: Mapping[str, int]
    peaks: Mapping[str, float]


def median(figures: Mapping[str, Figures], name: str) -> float | None:
    """Return the median seconds of a batch; None if the contender has not run."""
    return statistics.median(figures[name].seconds) if has_run(figures, name) else None


def has_run(figures: Mapping[str, Figures], name: str) -> bool:
    """Return whether the contender has run in this race."""
    return name in figures and not figures[name].error and bool(figures[name].seconds)


def ratio(figures: Mapping[str, Figures], name: str, base: str = BASE) -> str:
    """Return the images/s as a multiple of the base's, by the medians of one race."""
    seconds, base_seconds = median(figures, name), median(figures, base)
    return f"{base_seconds / seconds:.2f}" if seconds and base_seconds else ""


def timing(figures: Mapping[str, Figures], name: str, batch: int) -> list[str]:
    """Return images per second, and milliseconds of a batch: median, quartiles, minimum."""
    if not has_run(figures, name):
        return ["", figures[name].error[:60] if name in figures else ""]
    low, middle, high = statistics.quantiles(figures[name].seconds, n=4)
    least = min(figures[name].seconds)
    in_ms = f"{middle * 1e3:.1f} ({low * 1e3:.1f} to {high * 1e3:.1f}; {least * 1e3:.1f})"
    return [f"{batch / middle:.1f}", in_ms]


def row(comparison: Comparison, name: str, reference: Reference) -> str:
    """Return the line of one contender."""
    installed, tuned, batch = comparison.installed, comparison.tuned, comparison.batch
    cells = [str(batch), name]
    cells += [*timing(installed, name, batch), ratio(installed, name)]
    cells += [*timing(tuned, name, batch), ratio(tuned, name)]
    cells.append(ratio(tuned, name, BASE_INSTALLED))
    best = [seconds for figures in (installed, tuned) if (seconds := median(figures, name))]
    rate = batch / min(best) / reference.peaks[name] if best else 0.0
    cells += [f"{rate * flops:.0%}" for flops in (reference.flops, reference.executed[name])]
    difference = {**installed, **tuned}[name].difference
    return f"| {' | '.join([*cells, f'{difference:.0e}'])} |"


def table(comparisons: Sequence[Comparison], reference: Reference) -> list[str]:
    """Return the lines of one network: a heading and a table."""
    folded = min(reference.executed.values())
    lines = [
        f"## {comparisons[0].network}",
        "",
        f"{reference.flops / 1e9:.1f} GFLOP per image as published, {folded / 1e9:.1f} folded.",
        "",
        "| batch | contender | images/s | ms | ratio "
        "| images/s, allocator set | ms, allocator set | ratio, allocator set for both "
        "| ratio, allocator set for this one only | published FLOP/s of peak "
        "| executed FLOP/s of peak | largest difference of a logit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for comparison in comparisons:
        names = [n for n in {**comparison.installed, **comparison.tuned} if n != BASE_INSTALLED]
        lines += [row(comparison, name, reference) for name in names]
    return [*lines, ""]


def main_ratios(comparison: Comparison) -> dict[str, float]:
    """Return the ratios to transformers, as installed, of the contenders that the plot shows.

    Steps of the optimization, the plain network and the service's variables are in the table only.
    """
    ratios = {}
    for name in comparison.installed:
        shown = name != PLAIN and not name.startswith(UNTIL) and not name.endswith(SERVED)
        if shown and (value := ratio(comparison.installed, name)):
            ratios[name] = float(value)
    return ratios


def draw(comparisons: Sequence[Comparison], file: Path) -> None:
    """Draw a panel for each network at its smallest batch, with a bar for each main contender."""
    from matplotlib.figure import Figure  # only plots need it

    smallest: dict[str, Comparison] = {}
    for comparison in sorted(comparisons, key=lambda one: one.batch):
        smallest.setdefault(comparison.network, comparison)
    ratios = {network: main_ratios(one) for network, one in smallest.items()}
    names = list(dict.fromkeys(name for one in ratios.values() for name in one))
    columns = min(len(ratios), COLUMNS)
    rows = -(-len(ratios) // columns)
    figure = Figure(figsize=(WIDTH, rows * (0.9 + BAR_HEIGHT * len(names))), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axis, (network, by_name) in zip(axes, ratios.items(), strict=False):
        values = [by_name.get(name, 0.0) for name in names]
        colors = ["C0" if name.startswith("ours") else "silver" for name in names]
        bars = axis.barh(range(len(names)), values, height=0.75, color=colors)
        axis.bar_label(bars, [f"{one:.1f}" if one else "" for one in values], padding=3, fontsize=9)
        axis.set_yticks(range(len(names)), [name.replace("ours", "patchserve") for name in names])
        axis.margins(x=0.3)
        axis.set_title(f"{network}, batch {smallest[network].batch}", fontsize=11)
    for axis in axes[len(ratios) :]:
        axis.set_axis_off()
    axes[0].invert_yaxis()  # shared by all panels
    figure.supxlabel("images per second as a multiple of transformers, as installed", fontsize=10)
    figure.savefig(file, dpi=DPI)
