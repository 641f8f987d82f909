"""Both networks trained side by side, a process and a core each, with a progress bar for either.

Does not know how a network is trained.
"""

import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from models.registry import Task
from models.training.bundled.curriculum import Curriculum
from models.training.bundled.train import CURRICULA, MEASURED, Progress, train, vacant

EVERY = 10  # scenes or steps are reported together


class Run(NamedTuple):
    """One network's training under way in a process of its own."""

    task: Task
    process: SpawnProcess
    reports: Connection

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()


def train_all(
    out: Path,
    *,
    seed: int = 1,
    overwrite: bool = False,
    console: Console | None = None,
    curricula: Mapping[Task, Curriculum] = CURRICULA,
    measured: int = MEASURED,
) -> tuple[Path, ...]:
    """Train both networks into folders of `out`, each as `train` does; returns the folders.

    Before anything is done, FileExistsError when one is there and not `overwrite`, and ValueError
    for the seed of the unseen scenes. ChildProcessError when a run fails; the other, unless it has
    ended by then, is stopped and leaves nothing.
    """
    targets = tuple(vacant(task, out, seed, overwrite=overwrite) for task in curricula)
    with ExitStack() as stack:
        bars = stack.enter_context(bars_on(console))
        runs = []
        for task, curriculum in curricula.items():
            how = {
                "seed": seed,
                "curriculum": curriculum,
                "measured": measured,
                "overwrite": overwrite,
            }
            runs.append(start(task, out, how))
            stack.callback(runs[-1].stop)
        follow(runs, bars)
    return targets


def start(task: Task, out: Path, how: dict[str, Any]) -> Run:
    """Begin a run; spawned, because a fork of a process that has threads may hang."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(task, out, how, theirs), daemon=True)
    process.start()
    theirs.close()  # so that ours ends when the process does
    return Run(task, process, ours)


def work(task: Task, out: Path, how: dict[str, Any], reports: Connection) -> None:
    """The process's part: one network on one core. To answer an interrupt is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through the blocks that clean up
    torch.set_num_threads(1)

    def watch(progress: Progress) -> None:
        if progress.done % EVERY == 0 or progress.done == progress.total:
            reports.send(progress)

    train(task, out, **how, watch=watch)


def follow(runs: list[Run], bars: Bars) -> None:
    """Move the bars until every run has ended well; ChildProcessError at the first that has not."""
    open_ends = {run.reports: run for run in runs}
    rows: dict[tuple[Task, str], TaskID] = {}
    while open_ends:
        for end in wait(list(open_ends)):
            run = open_ends[end]  # type: ignore[index]  # they are the connections we gave
            try:
                move(bars, rows, run.reports.recv())
            except EOFError:
                del open_ends[run.reports]
                run.process.join()
                if run.process.exitcode != 0:
                    raise ChildProcessError(f"the run for {run.task} failed") from None


def move(bars: Bars, rows: dict[tuple[Task, str], TaskID], progress: Progress) -> None:
    """Bring the bar of a run's phase up to date; a phase gets its bar when it begins."""
    row = (progress.task, progress.doing)
    if row not in rows:
        rows[row] = bars.add_task(
            f"{progress.task}: {progress.doing}", total=progress.total, loss=""
        )
    loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
    bars.update(rows[row], completed=progress.done, loss=loss)


def bars_on(console: Console | None) -> Bars:
    """A bar for each phase of each run, with its loss; drawn on the console."""
    return Bars(
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.completed:>6} of {task.total:<6}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=console,
    )
