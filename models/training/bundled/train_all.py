"""Training of both bundled checkpoints side by side: a process, a core and progress bars each."""

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
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from models.registry import Task
from models.training.bundled.recipe import MEASURED, RECIPES, target_folder, train
from models.training.fitting.progress import Step, Watcher
from models.training.fitting.recipe import Recipe

EVERY = 10  # scenes or steps per message to the parent process


class Child(NamedTuple):
    """The process that trains one network."""

    task: Task
    process: SpawnProcess
    messages: Connection

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()


class Messenger(Watcher):
    """Sends the progress of a run to the parent process: phase, done, total, loss."""

    def __init__(self, messages: Connection) -> None:
        self.messages = messages

    def checking(self, done: int, total: int) -> None:
        self.send("drawing", done, total)

    def stepped(self, step: Step) -> None:
        self.send("training", step.done, step.total, f"loss {step.latest:.3f}")

    def measuring(self, done: int, total: int) -> None:
        self.send("measuring", done, total)

    def send(self, phase: str, done: int, total: int, loss: str = "") -> None:
        if done % EVERY == 0 or done == total:
            self.messages.send((phase, done, total, loss))


def train_all(
    out: Path,
    *,
    seed: int = 1,
    overwrite: bool = False,
    console: Console | None = None,
    recipes: Mapping[Task, Recipe] = RECIPES,
    measured: int = MEASURED,
) -> tuple[Path, ...]:
    """Train both networks into folders of `out`, each as `train` does.

    If a run fails, the other run is stopped and leaves nothing, unless it has ended by then.

    Returns:
        The folders.

    Raises:
        FileExistsError: a folder exists, and not `overwrite`; nothing has been done.
        ValueError: the seed is reserved for the unseen scenes; nothing has been done.
        ChildProcessError: a run failed.
    """
    targets = tuple(target_folder(task, out, seed, overwrite=overwrite) for task in recipes)
    with ExitStack() as stack:
        bars = stack.enter_context(progress_bars(console))
        children = []
        for task, recipe in recipes.items():
            options = {
                "seed": seed,
                "recipe": recipe,
                "measured": measured,
                "overwrite": overwrite,
            }
            children.append(start(task, out, options))
            stack.callback(children[-1].stop)
        follow(children, bars)
    return targets


def start(task: Task, out: Path, options: dict[str, Any]) -> Child:
    """Start a run; by spawn, because a forked process of a parent with threads may hang."""
    context = get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(task, out, options, sending), daemon=True)
    process.start()
    sending.close()  # so that the pipe ends when the child process does
    return Child(task, process, receiving)


def work(task: Task, out: Path, options: dict[str, Any], messages: Connection) -> None:
    """Train one network on one core, in the child process; the parent handles an interrupt."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves the blocks that clean up
    torch.set_num_threads(1)
    train(task, out, **options, watcher=Messenger(messages))


def follow(children: list[Child], bars: Progress) -> None:
    """Update the bars until every run has ended.

    Raises:
        ChildProcessError: a run failed.
    """
    running = {child.messages: child for child in children}
    rows: dict[tuple[Task, str], TaskID] = {}
    while running:
        for connection in wait(list(running)):
            child = running[connection]  # type: ignore[index]  # one of the given connections
            try:
                phase, done, total, loss = child.messages.recv()
            except EOFError:
                del running[child.messages]
                child.process.join()
                if child.process.exitcode != 0:
                    raise ChildProcessError(f"the run for {child.task} failed") from None
                continue
            row = (child.task, phase)
            if row not in rows:
                rows[row] = bars.add_task(f"{child.task}: {phase}", total=total, loss=loss)
            bars.update(rows[row], completed=done, loss=loss)


def progress_bars(console: Console | None) -> Progress:
    """Return a bar for each phase of each run, with the loss of the last step."""
    return Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.completed:>6} of {task.total:<6}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=console,
    )
