"""Axes of plots with plain numbers."""

from typing import Any


def plain_log_scale(axis: Any) -> None:
    """Give the y axis a logarithmic scale with plain numbers at 1, 2 and 5 times powers of 10."""
    from matplotlib.ticker import LogLocator  # only plots need it

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.minorticks_off()
