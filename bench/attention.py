"""Measures what the kinds of attention cost as the number of tokens grows.

    python -m bench.attention [--device cpu|cuda] [--out FOLDER]

Each figure comes from a process of its own, for the memory's sake. On a CPU it is the processor
time of one thread: what the clock would show on a machine with nothing else to do.
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
from models.layers.attention import Attention, AxialAttention, ReducedAttention

RESULTS = Path(__file__).parent / "results" / "attention.md"
SIDES = (16, 32, 64, 128)
WIDTH, HEADS, RATIO = 192, 3, 8
SECONDS = 1.0  # of calls, for one median


class Full(Attention):
    """Full attention of a token grid: every token heeds every other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x.flatten(1, 2)).view(x.shape)  # (B, H, W, D)


KINDS: dict[str, Callable[[], nn.Module]] = {
    "full": lambda: Full(WIDTH, HEADS),
    "reduced": lambda: ReducedAttention(WIDTH, HEADS, RATIO),
    "axial": lambda: AxialAttention(WIDTH, HEADS),
}


class Cost(NamedTuple):
    """What one call takes."""

    gflop: float
    seconds: float
    megabytes: float


def gflop(kind: str, side: int) -> float:
    """The products and sums of matrix products and convolutions of one call, in 10^9."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        KINDS[kind]()(torch.empty(1, side, side, WIDTH))
    return float(counter.get_total_flops()) / 1e9


@torch.inference_mode()
def measure(kind: str, side: int, device: str) -> Cost:
    """The FLOPs of a call, the extra memory of the first, the median time of those of a second."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = KINDS[kind]().to(device)
    network(torch.randn(1, RATIO, RATIO, WIDTH, device=device))  # what torch sets up once
    x = torch.randn(1, side, side, WIDTH, device=device)
    extra = extra_memory(device, network, x)
    taken: list[float] = []
    while not taken or sum(taken) < SECONDS:
        taken.append(seconds(device, network, x))
    return Cost(gflop(kind, side), statistics.median(taken), extra)


def extra_memory(device: str, network: nn.Module, x: torch.Tensor) -> float:
    """What a call needs besides its weights and its input, in MB."""
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
    """The seconds of one call."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    network(x)
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def draw(costs: dict[tuple[str, int], Cost], file: Path) -> None:
    """Each cost against the number of tokens, both on logarithmic axes."""
    from matplotlib.figure import Figure  # only who draws needs it

    figure = Figure(figsize=(12, 4), layout="constrained")
    titles = {"seconds": "seconds", "gflop": "GFLOP", "megabytes": "MB besides weights and input"}
    for axis, (field, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for kind in KINDS:
            values = [getattr(costs[kind, side], field) for side in SIDES]
            axis.loglog([side**2 for side in SIDES], values, marker="o", label=kind)
        axis.set_title(title)
        axis.set_xlabel("tokens")
        axis.grid(visible=True, alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(file, dpi=110)


def table(costs: dict[tuple[str, int], Cost], device: str) -> list[str]:
    """The lines of the page."""
    how = "processor time of one thread" if device == "cpu" else torch.cuda.get_device_name()
    lines = [
        "# What attention costs",
        "",
        f"{machine.cpu()}, {how}; {WIDTH} channels, {HEADS} heads, one image, float32. Medians. "
        f"`reduced` is SegFormer's, by {RATIO} x {RATIO} tokens; `axial` is columns, then rows.",
        "",
        "| tokens | kind | GFLOP | ms | to full | MB besides weights and input |",
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
    return [*lines, "", "![The same as curves](attention.png)"]


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table and keep it, with a plot."""
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
