"""Measures models.label_map against the plain way: resize every class, then take the argmax.

Each figure comes from a process of its own, for the memory's sake, and is the processor time of
one thread: what the clock would show on a machine with nothing else to do.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bench import machine
from models.label_map import label_map

RESULTS = Path(__file__).parent / "results" / "label_map.md"
ROUNDS = 3
SIZES = ((480, 640), (1500, 2000), (3000, 4000))
NUM_LABELS, GRID = 150, (128, 128)


class Figures(NamedTuple):
    """What one call takes."""

    seconds: float
    megabytes: float


def resized_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The plain way, which is transformers' post_process_semantic_segmentation."""
    resized = interpolate(logits[None], size, mode="bilinear", align_corners=False)
    return resized[0].argmax(0)


WAYS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "plain": resized_argmax,
    "ours": label_map,
}


def regions() -> Tensor:
    """Smooth logits; busier than a photograph's, as every class is as likely everywhere."""
    coarse = torch.randn(1, NUM_LABELS, 16, 16)
    return interpolate(coarse, GRID, mode="bicubic")[0]


def white_noise() -> Tensor:
    """The worst case: no two neighbours agree."""
    return torch.randn(NUM_LABELS, *GRID)


KINDS: dict[str, Callable[[], Tensor]] = {"regions": regions, "white noise": white_noise}


def measure(way: str, kind: str, size: tuple[int, int]) -> Figures:
    """The extra memory of the first call, and the median time of it and those within a second."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logits, call = KINDS[kind](), WAYS[way]
    call(logits[:2], (32, 32))  # what torch sets up once
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    before = machine.memory("VmRSS")
    taken: list[float] = []
    while not taken or sum(taken) < 1:
        began = time.process_time()
        call(logits, size)
        taken.append(time.process_time() - began)
    return Figures(statistics.median(taken), machine.memory("VmHWM") - before)


def row(kind: str, size: tuple[int, int], pool: ProcessPoolExecutor) -> str:
    """One line of the table, from interleaved rounds of both ways."""
    needed = 4 * NUM_LABELS * size[0] * size[1] / 2**20
    if 1.2 * needed > machine.memory("MemAvailable", "/proc/meminfo"):
        return f"| {kind} | {size[0]} x {size[1]} | the plain way does not fit here | | | | | |"
    rounds = [
        {way: pool.submit(measure, way, kind, size).result() for way in WAYS} for _ in range(ROUNDS)
    ]
    plain, ours = (
        Figures(*(statistics.median(column) for column in zip(*figures, strict=True)))
        for figures in ([measured[way] for measured in rounds] for way in WAYS)
    )
    faster = statistics.median(m["plain"].seconds / m["ours"].seconds for m in rounds)
    return (
        f"| {kind} | {size[0]} x {size[1]} | {plain.seconds * 1e3:.0f} ms | "
        f"{ours.seconds * 1e3:.0f} ms | {faster:.1f} | {plain.megabytes:.0f} MB | "
        f"{ours.megabytes:.0f} MB | {plain.megabytes / ours.megabytes:.0f} |"
    )


def main() -> None:
    """Print the table and keep it."""
    lines = [
        f"# Label maps of {NUM_LABELS} classes from logits of {GRID[0]} x {GRID[1]}",
        "",
        f"{machine.cpu()}, processor time of one thread; medians of {ROUNDS} interleaved "
        "rounds. Memory is what a call needs besides its logits.",
        "",
        "| logits | output | plain | ours | ratio | plain, memory | ours, memory | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        for kind in KINDS:
            for size in SIZES:
                lines.append(row(kind, size, pool))
                print(lines[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
