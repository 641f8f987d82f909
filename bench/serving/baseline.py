"""Owns the raw limit: the bare loop in the way that suits the network and this machine best.

Knows nothing of servers.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.common.children import Child, child
from bench.common.cpu import Share, between, usage
from bench.common.idle import undisturbed
from bench.serving.servers import untuned

BATCHES = (1, 2, 4, 8)
TRIAL_S = 0.7
CORES = os.cpu_count() or 1


class Way(NamedTuple):
    """So many processes, each with so many threads of torch, on batches of so many images."""

    processes: int
    threads: int
    batch: int

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{processes} of {threads}, batch {self.batch}"


class Pace(NamedTuple):
    """How it went: images a second, milliseconds of processor time an image, of a batch by the
    clock.
    """

    rate: float
    cpu_ms: float
    batch_ms: float


def ways() -> list[Way]:
    """One process that has all cores, and one process for each core."""
    shapes = dict.fromkeys(((1, CORES), (CORES, 1)))
    return [Way(*shape, batch) for shape in shapes for batch in BATCHES]


class RawLoop:
    """The loop's processes, one for each core."""

    def __init__(self, workers: Sequence[Child]) -> None:
        self._workers = workers

    def expect(self, out: Path) -> None:
        """Keep what the network says of each photograph."""
        self._workers[0].ask(do="expect", out=str(out))
        self._workers[0].hear("done")

    def run(self, way: Way, seconds: float) -> tuple[Pace, Share]:
        """Let it go on in one way for so long; how it went, and what the machine did meanwhile."""
        workers = self._workers[: way.processes]
        roots = {str(worker.pid): worker.pid for worker in workers}
        before = usage(roots)
        for worker in workers:
            worker.ask(do="run", threads=way.threads, batch=way.batch, seconds=seconds)
        done = [worker.hear("done") for worker in workers]
        pace = Pace(
            rate=sum(one["images"] / one["seconds"] for one in done),
            cpu_ms=sum(one["cpu"] for one in done) / sum(one["images"] for one in done) * 1e3,
            batch_ms=max(one["batch_ms"] for one in done),
        )
        return pace, between(before, usage(roots))

    def best(self) -> tuple[Way, Way]:
        """The ways with the most images a second, and with the least time for a single image."""
        single = {Way(1, 1, 1), Way(1, CORES, 1)}
        paces = {
            way: undisturbed(f"the loop in {way}", partial(self.run, way, TRIAL_S))
            for way in single.union(ways())
        }
        quickest = max(paces, key=lambda way: paces[way].rate)
        return quickest, min(single, key=lambda way: paces[way].batch_ms)


@contextmanager
def raw_loop(folder: Path, runtime: str, photos: Sequence[Path]) -> Iterator[RawLoop]:
    """The loop on a checkpoint, built one process after the other: they try what is quicker."""
    with ExitStack() as stack:
        workers = []
        for _ in range(CORES):
            arguments = (str(folder), runtime, *map(str, photos))
            worker = child("bench.serving.baseline_worker", *arguments, env=untuned())
            workers.append(stack.enter_context(worker))
            workers[-1].hear("ready")
        yield RawLoop(workers)
