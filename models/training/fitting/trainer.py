"""A training run, epoch by epoch, which can be interrupted and resumed after any step."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.training.confusion import Confusion
from models.training.data.curriculum import CurriculumFeed
from models.training.data.examples import Batch, Data
from models.training.data.loader import Feed
from models.training.fitting.evaluate import measure
from models.training.fitting.history import Row, write_metrics
from models.training.fitting.initialize import Start, initialize_small
from models.training.fitting.objective import Learner, Teacher
from models.training.fitting.progress import Step, Watcher
from models.training.fitting.recipe import Recipe, optimizer_for
from models.training.fitting.resume_state import write_state
from models.training.fitting.snapshots import Snapshots
from models.training.step import Loop

Stop = Callable[[], bool]  # returns whether the run should save its state and stop


class Interrupted(Exception):  # noqa: N818 - no error: a stop was requested
    """The run has stopped; its folder contains its state."""


@dataclass
class Position:
    """The progress of a run, with sums over the current epoch."""

    epoch: int = 0  # completed epochs
    batch: int = 0  # completed batches of the current epoch
    lost: float = 0.0  # sum of the examples' losses
    latest: float = 0.0  # mean loss of the last batch
    seen: int = 0  # examples
    seconds: float = 0.0  # spent on these examples
    spent: float = 0.0  # seconds spent in all epochs

    def count(self, loss: float, examples: int, seconds: float) -> None:
        """Count a completed batch."""
        self.batch += 1
        self.lost += loss * examples
        self.latest = loss
        self.seen += examples
        self.seconds += seconds
        self.spent += seconds

    def end_epoch(self) -> None:
        """Count a completed epoch."""
        self.epoch, self.batch, self.lost, self.seen, self.seconds = self.epoch + 1, 0, 0.0, 0, 0.0


class Run:
    """Trains a network; saves the state in a folder after each epoch and at an interruption.

    `metadata` is stored in the state as well.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        start: Start,
        feed: Feed | CurriculumFeed,
        *,
        device: torch.device,
        teacher: Checkpoint | None = None,
    ) -> None:
        self.recipe, self.data, self.start, self.device = recipe, data, start, device
        self.feed = feed
        teach = None if teacher is None else Teacher(teacher, data.labels, device)
        learner = Learner(
            start.network,
            start.preprocessing,
            teach,
            patch_labels=recipe.patch_labels,
            cell=recipe.cell,
        )
        if recipe.small_init:
            initialize_small(learner)
        learner.to(device)
        names = start.fresh
        fresh = None if names is None else {f"network.{name}" for name in names}
        self.loop: Loop[Batch] = Loop(
            learner,
            optimizer_for(learner, recipe, fresh),
            averaging=recipe.average_per_step(self.feed.steps),
            max_grad_norm=recipe.max_grad_norm,
        )
        shown = data.held_out if data.task == "segment" else None
        self.snapshots = Snapshots.of(shown, start.preprocessing, recipe.epochs) if shown else None
        self.rows: list[Row] = []
        self.at = Position()
        self.metadata: dict[str, Any] = {}

    def go(self, folder: Path, stop: Stop, watcher: Watcher) -> Confusion:
        """Train the remaining epochs and return the held-out quality after the last one.

        Raises:
            Interrupted: `stop` returned True, and the state is saved.
        """
        folder.mkdir(parents=True, exist_ok=True)
        quality = None
        while self.at.epoch < self.recipe.epochs:
            self.train(folder, stop, watcher)
            quality = self.evaluate(folder, stop, watcher)
            self.end_epoch(quality, folder, watcher)
        return quality or self.evaluate(folder, stop, watcher)

    def train(self, folder: Path, stop: Stop, watcher: Watcher) -> None:
        """Train on the remaining batches of the epoch."""
        before = time.monotonic()
        for batch in self.feed.epoch(self.at.epoch, self.at.batch):
            loss = self.loop.step(batch.to(self.device), self.rate_factor())
            now = time.monotonic()
            self.at.count(loss, len(batch), now - before)
            before = now
            watcher.stepped(self.step())
            self.stop_if(stop, folder)

    def evaluate(self, folder: Path, stop: Stop, watcher: Watcher) -> Confusion:
        """Return the quality on the held-out examples."""

        def watch(done: int, total: int) -> None:
            watcher.measuring(done, total)
            self.stop_if(stop, folder)

        return measure(
            self.loop.result(),
            self.data.held_out,
            self.data.labels,
            self.start.preprocessing,
            batch_size=self.recipe.batch_size,
            at_input_size=self.recipe.at_input_size,
            watch=watch,
        )

    def end_epoch(self, quality: Confusion, folder: Path, watcher: Watcher) -> None:
        """Record an epoch and save the state."""
        step = self.step()
        figures = (quality.accuracy, quality.mean_iou, step.images_per_s)
        row = Row(step.epoch, step.loss, step.learning_rate, *figures)
        if self.snapshots is not None:
            self.snapshots.take(step.epoch, self.loop.result())
        self.rows.append(row)
        self.at.end_epoch()
        write_metrics(self.rows, self.data.task, folder)
        write_state(folder, self.state())
        watcher.measured(row, self.recipe.epochs, self.data.task)

    def stop_if(self, stop: Stop, folder: Path) -> None:
        """Save the state and raise Interrupted, if a stop is requested."""
        if stop():
            write_state(folder, self.state())
            raise Interrupted

    def rate_factor(self, ago: int = 0) -> float:
        """Return the fraction of the learning rate of the next step, or of `ago` steps before."""
        done = self.at.epoch * self.feed.steps + self.at.batch
        return self.recipe.rate_factor(done - ago, self.feed.steps)

    def step(self) -> Step:
        """Return the progress within the epoch."""
        return Step(
            self.at.epoch + 1,
            self.recipe.epochs,
            self.at.batch,
            self.feed.steps,
            self.at.lost / max(self.at.seen, 1),
            self.recipe.learning_rate * self.rate_factor(ago=1),
            self.at.seen / max(self.at.seconds, 1e-9),
            self.at.latest,
        )

    def state(self) -> dict[str, Any]:
        """Return the argument of `restore`, as plain values and tensors."""
        return self.metadata | {
            "loop": self.loop.state(),
            "snapshots": self.snapshots.state() if self.snapshots else {},
            "rows": [tuple(row) for row in self.rows],
            "at": asdict(self.at),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where the state was taken, in a run with the same arguments."""
        self.loop.restore(state["loop"])
        if self.snapshots:
            self.snapshots.restore(state["snapshots"])
        self.rows = [Row(*row) for row in state["rows"]]
        self.at = Position(**state["at"])
