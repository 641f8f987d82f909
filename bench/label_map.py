"""Measures models.label_map against the plain way, and others that need less memory than it.

Each figure comes from a process of its own, for the memory's sake, that keeps freed memory as the
service does.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from app.core.malloc import keep_freed_memory
from bench.common import machine
from bench.runtimes.resizes import WAYS, resized
from models.label_map import label_map

RESULTS = Path(__file__).parent / "results" / "label_map.md"
ROUNDS = 3
ENOUGH_S = 0.3
SLOW_S = 3.0  # what takes longer is measured once
SIZES = ((480, 640), (1500, 2000), (3000, 4000))
NUM_LABELS, GRID = 150, (128, 128)


class Figures(NamedTuple):
    """What one call takes."""

    seconds: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds * 1e3:.0f} ms, {self.megabytes:.0f} MB"


def regions() -> Tensor:
    """Smooth logits; busier than a photograph's, as every class is as likely everywhere."""
    coarse = torch.randn(1, NUM_LABELS, 16, 16)
    return interpolate(coarse, GRID, mode="bicubic")[0]


def white_noise() -> Tensor:
    """The worst case: no two neighbours agree."""
    return torch.randn(NUM_LABELS, *GRID)


KINDS: dict[str, Callable[[], Tensor]] = {"regions": regions, "white noise": white_noise}


def measure(way: str, kind: str, size: tuple[int, int], threads: int) -> Figures:
    """The extra memory of the first call, and the median time of it and those that follow."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    logits, call = KINDS[kind](), WAYS[way]
    call(logits[:2], (32, 32))  # what torch sets up once
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    before = machine.memory("VmRSS")
    taken: list[float] = []
    while not taken or sum(taken) < ENOUGH_S:
        began = time.perf_counter()
        call(logits, size)
        taken.append(time.perf_counter() - began)
    return Figures(statistics.median(taken), machine.memory("VmHWM") - before)


def differences(kind: str, size: tuple[int, int]) -> str:
    """How many pixels come out otherwise than the plain way, and by how close a call."""
    torch.manual_seed(0)
    logits = KINDS[kind]()
    values = resized(logits, size)
    ours, plain = label_map(logits, size).long(), values.argmax(0)
    gap = values.gather(0, plain[None]) - values.gather(0, ours[None])
    count = int((ours != plain).sum())
    return f"{kind}: {count} of {plain.numel()} pixels differ, by {gap.max():.0e} at most"


def row(kind: str, size: tuple[int, int], threads: int, pool: ProcessPoolExecutor) -> str:
    """One line of the table, from interleaved rounds of all ways."""
    rounds: list[dict[str, Figures]] = []
    for _ in range(ROUNDS):
        before = rounds[-1] if rounds else {}
        slow = {way: figures for way, figures in before.items() if figures.seconds > SLOW_S}
        quick = [way for way in WAYS if way not in slow]
        now = {way: pool.submit(measure, way, kind, size, threads).result() for way in quick}
        rounds.append(slow | now)
    cells = [
        str(Figures(*map(statistics.median, zip(*(one[way] for one in rounds), strict=True))))
        for way in WAYS
    ]
    cells += [
        f"{statistics.median(one['ours'].seconds / one[way].seconds for one in rounds):.2f}"
        for way in ("plain", "row strips")
    ]
    return f"| {kind} | {size[0]} x {size[1]} | {threads} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table and keep it."""
    lines = [
        f"# Label maps of {NUM_LABELS} classes from logits of {GRID[0]} x {GRID[1]}",
        "",
        f"{machine.cpu()}, by the clock; medians of {ROUNDS} interleaved rounds, but one of "
        f"what takes over {SLOW_S:g} s. Memory is what "
        "a call needs besides its logits. The last columns are ours' time as a part of theirs.",
        "",
        f"| logits | output | threads | {' | '.join(WAYS)} | to plain | to row strips |",
        "|---|---|---|" + "---|" * (len(WAYS) + 2),
    ]
    print("\n".join(lines))
    apart = multiprocessing.get_context("forkserver")
    apart.set_forkserver_preload(["bench.runtimes.resizes"])
    with ProcessPoolExecutor(1, apart, max_tasks_per_child=1) as pool:
        for kind, size, threads in product(KINDS, SIZES, (1, os.cpu_count() or 1)):
            lines.append(row(kind, size, threads, pool))
            print(lines[-1], flush=True)
        lines += ["", *(pool.submit(differences, kind, SIZES[1]).result() for kind in KINDS)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
