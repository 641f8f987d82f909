"""The bare loop: the same work as a server without HTTP, in its best configuration."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.common.children import Child, child
from bench.common.cpu import UsageDelta, usage, usage_between
from bench.common.idle import undisturbed
from bench.serving.servers import untuned

BATCHES = (1, 2, 4, 8)
TRIAL_S = 0.7  # length of the measurement of one configuration
CORES = os.cpu_count() or 1


class LoopConfig(NamedTuple):
    """The number of processes, the torch threads of each, and the batch size."""

    processes: int
    threads: int
    batch: int

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{processes} of {threads}, batch {self.batch}"


class LoopRun(NamedTuple):
    """Images per second, CPU milliseconds per image, wall-clock milliseconds per batch."""

    rate: float
    cpu_ms: float
    batch_ms: float


def loop_configs(batches: Sequence[int] = BATCHES) -> list[LoopConfig]:
    """Return the configurations: one process with all cores, or one process per core."""
    shapes = dict.fromkeys(((1, CORES), (CORES, 1)))
    return [LoopConfig(*shape, batch) for shape in shapes for batch in batches]


class BareLoop:
    """The processes of the bare loop."""

    def __init__(self, workers: Sequence[Child]) -> None:
        self._workers = workers

    def expect(self, out: Path) -> None:
        """Save the network's result for each photograph."""
        self._workers[0].send(do="expect", out=str(out))
        self._workers[0].receive("done")

    def run(self, config: LoopConfig, seconds: float) -> tuple[LoopRun, UsageDelta]:
        """Run the loop in a configuration; return its figures and the CPU use meanwhile."""
        workers = self._workers[: config.processes]
        roots = {str(worker.pid): worker.pid for worker in workers}
        before = usage(roots)
        for worker in workers:
            worker.send(do="run", threads=config.threads, batch=config.batch, seconds=seconds)
        done = [worker.receive("done") for worker in workers]
        result = LoopRun(
            rate=sum(one["images"] / one["seconds"] for one in done),
            cpu_ms=sum(one["cpu"] for one in done) / sum(one["images"] for one in done) * 1e3,
            batch_ms=max(one["batch_ms"] for one in done),
        )
        return result, usage_between(before, usage(roots))

    def best(self) -> tuple[LoopConfig, LoopConfig]:
        """Return the configurations with the highest rate and with the fastest single image."""
        single = {LoopConfig(1, 1, 1), LoopConfig(1, CORES, 1)}
        runs = {
            config: undisturbed(f"the bare loop with {config}", partial(self.run, config, TRIAL_S))
            for config in single.union(loop_configs())
        }
        fastest = max(runs, key=lambda config: runs[config].rate)
        return fastest, min(single, key=lambda config: runs[config].batch_ms)


@contextmanager
def bare_loop(
    folder: Path, runtime: str, photos: Sequence[Path], workers: int = CORES
) -> Iterator[BareLoop]:
    """Start the worker processes of the bare loop on a checkpoint.

    They start one after the other, because each one times kernels to choose the fastest.
    """
    with ExitStack() as stack:
        started = []
        for _ in range(workers):
            arguments = (str(folder), runtime, *map(str, photos))
            worker = child("bench.serving.baseline_worker", *arguments, env=untuned())
            started.append(stack.enter_context(worker))
            started[-1].receive("ready")
        yield BareLoop(started)
