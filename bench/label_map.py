"""Compares models.label_map with other methods to compute a label map from logits.

It also measures models.confidence, and compares its probabilities with a direct computation.

Each figure comes from a process of its own, because memory is measured. The process keeps freed
memory like the service.
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
from bench.runtimes.resizes import METHODS, resized
from models.confidence import probability_strips
from models.label_map import label_map

RESULTS = Path(__file__).parent / "results" / "label_map.md"
ROUNDS = 3
MIN_S = 0.3
SLOW_S = 3.0  # a slower method is measured once
RATIOS = (("ours", "plain"), ("ours", "row strips"), ("with confidence", "ours"))
SIZES = ((480, 640), (1500, 2000), (3000, 4000))
NUM_LABELS, GRID = 150, (128, 128)


class Figures(NamedTuple):
    """Time and memory of one call."""

    seconds: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds * 1e3:.0f} ms, {self.megabytes:.0f} MB"


def regions() -> Tensor:
    """Return smooth logits, with more regions than a photograph: all classes are equally likely."""
    coarse = torch.randn(1, NUM_LABELS, 16, 16)
    return interpolate(coarse, GRID, mode="bicubic")[0]


def white_noise() -> Tensor:
    """Return the worst case: no two neighbors have the same label."""
    return torch.randn(NUM_LABELS, *GRID)


KINDS: dict[str, Callable[[], Tensor]] = {"regions": regions, "white noise": white_noise}


def measure(method: str, kind: str, size: tuple[int, int], threads: int) -> Figures:
    """Return the median time of the calls, and the extra memory of the first one."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    logits, call = KINDS[kind](), METHODS[method]
    call(logits[:2], (32, 32))  # one-time setup of torch
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
    before = machine.memory("VmRSS")
    taken: list[float] = []
    while not taken or sum(taken) < MIN_S:
        began = time.perf_counter()
        call(logits, size)
        taken.append(time.perf_counter() - began)
    return Figures(statistics.median(taken), machine.memory("VmHWM") - before)


def differences(kind: str, size: tuple[int, int]) -> str:
    """Return how many pixels differ from the plain method, and their largest margin."""
    torch.manual_seed(0)
    logits = KINDS[kind]()
    values = resized(logits, size)
    ours, plain = label_map(logits, size).long(), values.argmax(0)
    margin = values.gather(0, plain[None]) - values.gather(0, ours[None])
    count = int((ours != plain).sum())
    return f"{kind}: {count} of {plain.numel()} pixels differ, margin at most {margin.max():.0e}"


def confidence_difference(kind: str, size: tuple[int, int]) -> str:
    """Return how far the probabilities are from those of resizing every class.

    The softmax of the direct computation is float64: torch's float32 softmax over the first
    dimension is less exact than what it is compared with.
    """
    torch.manual_seed(0)
    logits = KINDS[kind]()
    labels = label_map(logits, size)
    direct = resized(logits.double().softmax(0).float(), size).gather(0, labels[None].long())[0]
    ours = torch.cat([strip for _, strip in probability_strips(logits, labels)])
    return f"{kind}: probabilities differ by at most {(ours - direct).abs().max():.0e}"


def row(kind: str, size: tuple[int, int], threads: int, pool: ProcessPoolExecutor) -> str:
    """Return one line of the table, from interleaved rounds of all methods."""
    rounds: list[dict[str, Figures]] = []
    for _ in range(ROUNDS):
        before = rounds[-1] if rounds else {}
        slow = {method: figures for method, figures in before.items() if figures.seconds > SLOW_S}
        quick = [method for method in METHODS if method not in slow]
        now = {
            method: pool.submit(measure, method, kind, size, threads).result() for method in quick
        }
        rounds.append(slow | now)
    cells = [
        str(Figures(*map(statistics.median, zip(*(one[method] for one in rounds), strict=True))))
        for method in METHODS
    ]
    cells += [
        f"{statistics.median(one[part].seconds / one[whole].seconds for one in rounds):.2f}"
        for part, whole in RATIOS
    ]
    return f"| {kind} | {size[0]} x {size[1]} | {threads} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table and write it."""
    lines = [
        f"# Label maps of {NUM_LABELS} classes from logits of {GRID[0]} x {GRID[1]}",
        "",
        f"{machine.cpu()}, wall-clock time; medians of {ROUNDS} interleaved rounds, or one call if "
        f"it takes more than {SLOW_S:g} s. Memory is what a call needs besides its logits. `plain` "
        "is the method of transformers, `ours` is models.label_map, and `with confidence` is "
        "models.label_map followed by models.confidence. The last columns are the time of one "
        "method as a ratio to the time of another.",
        "",
        f"| logits | output | threads | {' | '.join([*METHODS, *map(' / '.join, RATIOS)])} |",
        "|---|---|---|" + "---|" * (len(METHODS) + len(RATIOS)),
    ]
    print("\n".join(lines))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.runtimes.resizes"])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for kind, size, threads in product(KINDS, SIZES, (1, os.cpu_count() or 1)):
            lines.append(row(kind, size, threads, pool))
            print(lines[-1], flush=True)
        for compare in (differences, confidence_difference):
            lines += ["", *(pool.submit(compare, kind, SIZES[1]).result() for kind in KINDS)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
