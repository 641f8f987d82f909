"""Observers of a run: a silent base class, and a console with a progress bar."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from models.registry import Task
from models.training.fitting.history import QUALITY, Row

NAMED_AT_MOST = 5  # unusable files


class Step(NamedTuple):
    """The progress of a run within an epoch."""

    epoch: int  # from 1
    epochs: int
    done: int  # batches
    total: int
    loss: float  # the mean over the epoch so far
    learning_rate: float
    images_per_s: float
    latest: float = 0.0  # the loss of the last batch


class Watcher(AbstractContextManager["Watcher"]):
    """Receives the events of a run and ignores them."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """Receive a message for the user."""

    def checking(self, done: int, total: int) -> None:
        """Files have been checked."""

    def stepped(self, step: Step) -> None:
        """A step has ended."""

    def measuring(self, done: int, total: int) -> None:
        """Held-out examples have been measured."""

    def measured(self, row: Row, epochs: int, task: Task) -> None:
        """An epoch has ended; the task says which quality is reported."""

    def left_out(self, files: tuple[str, ...]) -> None:
        """Receive a line for each unusable file."""


class Display(Watcher):
    """Prints a line per epoch and, on a terminal, a progress bar of the current phase."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>5} of {task.total:<5}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[details]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.row: TaskID | None = None
        self.phase = ""

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def checking(self, done: int, total: int) -> None:
        self.move("checking", done, total)

    def stepped(self, step: Step) -> None:
        details = (
            f"loss {step.loss:.3f}  rate {step.learning_rate:.1e}  {step.images_per_s:.0f} img/s"
        )
        self.move(f"epoch {step.epoch} of {step.epochs}", step.done, step.total, details)

    def measuring(self, done: int, total: int) -> None:
        self.move("measuring", done, total)

    def measured(self, row: Row, epochs: int, task: Task) -> None:
        figures = [f"{name} {getattr(row, field):.4f}" for name, field in QUALITY[task].items()]
        self.say(
            f"epoch {row.epoch} of {epochs}: loss {row.loss:.4f}, held-out {', '.join(figures)}, "
            f"{row.images_per_s:.0f} images/s"
        )

    def left_out(self, files: tuple[str, ...]) -> None:
        for line in files[:NAMED_AT_MOST]:
            self.say(f"left out: {line}")
        if len(files) > NAMED_AT_MOST:
            self.say(f"left out: {len(files) - NAMED_AT_MOST} more")

    def move(self, phase: str, done: int, total: int, details: str = "") -> None:
        """Update the bar; a new phase replaces it by a new bar."""
        if self.row is None or phase != self.phase:
            if self.row is not None:
                self.bars.remove_task(self.row)
            self.row, self.phase = self.bars.add_task(phase, total=total, details=details), phase
        self.bars.update(self.row, completed=done, total=total, details=details)
