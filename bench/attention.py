"""Measures the cost of each kind of attention by the number of tokens.

    python -m bench.attention [--device cpu|cuda] [--out FOLDER]

Each figure comes from a process of its own, because memory is measured. On a CPU, time is the CPU
time of one thread.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.common import machine
from bench.common.axes import plain_log_scale
from models.layers.attention import Attention, AxialAttention, GridMask, ReducedAttention

RESULTS = Path(__file__).parent / "results" / "attention.md"
SIDES = (16, 32, 64, 128)
WIDTH, HEADS, RATIO = 192, 3, 8
SECONDS = 1.0  # total time of the calls of one median


class Full(Attention):
    """Full attention on a token grid: every token attends to every token."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x.flatten(1, 2)).view(x.shape)  # (B, H, W, D)


class Axial(AxialAttention):
    """Axial attention on a token grid (B, H, W, D)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        grid = (x.shape[1], x.shape[2])
        return super().forward(x.flatten(1, 2), GridMask(grid)).view(x.shape)  # (B, H, W, D)


KINDS: dict[str, Callable[[], nn.Module]] = {
    "full": lambda: Full(WIDTH, HEADS),
    "reduced": lambda: ReducedAttention(WIDTH, HEADS, RATIO),
    "axial": lambda: Axial(WIDTH, HEADS),
}


TITLES = {  # of the panels, by field of Cost
    "seconds": "time, s",
    "gflop": "operations, GFLOP",
    "megabytes": "memory of a call, MB",
}
LEGEND = {
    "full": "full attention (ViT)",
    "reduced": "reduced keys (SegFormer)",
    "axial": "axial: columns, then rows",
}


class Cost(NamedTuple):
    """Operations, time and memory of one call."""

    gflop: float
    seconds: float
    megabytes: float


def gflop(kind: str, side: int) -> float:
    """Return the operations of matrix products and convolutions of one call, in 10^9."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        KINDS[kind]()(torch.empty(1, side, side, WIDTH))
    return float(counter.get_total_flops()) / 1e9


@torch.inference_mode()
def measure(kind: str, side: int, device: str) -> Cost:
    """Return the operations, the extra memory of the first call, and the median time of a call."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = KINDS[kind]().to(device)
    network(torch.randn(1, RATIO, RATIO, WIDTH, device=device))  # one-time setup of torch
    x = torch.randn(1, side, side, WIDTH, device=device)
    extra = extra_memory(device, network, x)
    taken: list[float] = []
    while not taken or sum(taken) < SECONDS:
        taken.append(seconds(device, network, x))
    return Cost(gflop(kind, side), statistics.median(taken), extra)


def extra_memory(device: str, network: nn.Module, x: torch.Tensor) -> float:
    """Return the memory that a call needs besides its weights and its input, in MB."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        network(x)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    resident = machine.memory("VmRSS")
    network(x)
    return machine.memory("VmHWM") - resident


def seconds(device: str, network: nn.Module, x: torch.Tensor) -> float:
    """Return the seconds of one call."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    network(x)
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def draw(costs: dict[tuple[str, int], Cost], file: Path) -> None:
    """Draw each cost by the number of tokens, on logarithmic axes, with one legend."""
    from matplotlib.figure import Figure  # only plots need it

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    tokens = [side**2 for side in SIDES]
    for axis, (field, title) in zip(figure.subplots(1, 3), TITLES.items(), strict=True):
        for kind in KINDS:
            values = [getattr(costs[kind, side], field) for side in SIDES]
            axis.plot(tokens, values, marker="o", markersize=4, label=LEGEND[kind])
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("tokens")
        axis.set_xscale("log")
        axis.set_xticks(tokens, [f"{count:,}" for count in tokens], fontsize=8)
        plain_log_scale(axis)
        axis.tick_params(axis="y", labelsize=8)
        axis.grid(visible=True, alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(file, dpi=100)


def table(costs: dict[tuple[str, int], Cost], device: str) -> list[str]:
    """Return the introduction and the table."""
    timing = "CPU time of one thread" if device == "cpu" else torch.cuda.get_device_name()
    lines = [
        "# The cost of attention",
        "",
        f"{machine.cpu()}, {timing}; {WIDTH} channels, {HEADS} heads, one image, float32. Medians. "
        f"`reduced` is SegFormer's attention, with keys and values reduced by {RATIO} x {RATIO} "
        "tokens; `axial` attends along columns, then along rows. MB: memory of a call besides "
        "weights and input.",
        "",
        "| tokens | kind | GFLOP | ms | ratio of ms to full | MB |",
        "|---|---|---|---|---|---|",
    ]
    for side in SIDES:
        for kind in KINDS:
            cost, full = costs[kind, side], costs["full", side]
            lines.append(
                f"| {side} x {side} = {side**2} | {kind} | {cost.gflop:.2f} | "
                f"{cost.seconds * 1e3:.1f} | {cost.seconds / full.seconds:.2f} | "
                f"{cost.megabytes:.0f} |"
            )
    return [*lines, "", "![The figures of the table as curves](attention.png)"]


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table and write it, with a plot."""
    parser = argparse.ArgumentParser(prog="bench.attention")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = parser.parse_args(arguments)
    costs = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        for side in SIDES:
            for kind in KINDS:
                costs[kind, side] = pool.submit(measure, kind, side, given.device).result()
    lines = table(costs, given.device)
    print("\n".join(lines))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / RESULTS.name).write_text("\n".join(lines) + "\n")
    draw(costs, given.out / RESULTS.with_suffix(".png").name)


if __name__ == "__main__":
    main(sys.argv[1:])
