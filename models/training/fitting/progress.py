"""Who hears of a run under way: nobody, or a console with a progress bar.

Does not know how a run goes.
"""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from models.training.fitting.history import Row

NAMED_AT_MOST = 5  # files that cannot be used


class Step(NamedTuple):
    """How far a run is within an epoch."""

    epoch: int  # from 1 on
    epochs: int
    done: int  # batches
    total: int
    loss: float  # the mean so far
    learning_rate: float
    images_per_s: float
    latest: float = 0.0  # the loss of the last batch


class Watcher(AbstractContextManager["Watcher"]):
    """Hears everything and says nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """Something that is told once."""

    def checking(self, done: int, total: int) -> None:
        """The files are looked at."""

    def stepped(self, step: Step) -> None:
        """A step is done."""

    def measuring(self, done: int, total: int) -> None:
        """The held-out examples are answered."""

    def measured(self, row: Row, epochs: int, quality: str) -> None:
        """An epoch is done; `quality` is the field of its row that tells most."""

    def left_out(self, files: tuple[str, ...]) -> None:
        """Files that cannot be used; each has its line."""


class Display(Watcher):
    """A bar for what goes on, on a terminal, and a line for each epoch, anywhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>5} of {task.total:<5}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.row: TaskID | None = None
        self.doing = ""

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
        told = f"loss {step.loss:.3f}  rate {step.learning_rate:.1e}  {step.images_per_s:.0f} img/s"
        self.move(f"epoch {step.epoch} of {step.epochs}", step.done, step.total, told)

    def measuring(self, done: int, total: int) -> None:
        self.move("measuring", done, total)

    def measured(self, row: Row, epochs: int, quality: str) -> None:
        told = f"{quality.replace('_', ' ')} {getattr(row, quality):.4f}"
        self.say(
            f"epoch {row.epoch} of {epochs}: loss {row.loss:.4f}, held-out {told}, "
            f"{row.images_per_s:.0f} images/s"
        )

    def left_out(self, files: tuple[str, ...]) -> None:
        for line in files[:NAMED_AT_MOST]:
            self.say(f"left out: {line}")
        if len(files) > NAMED_AT_MOST:
            self.say(f"left out: {len(files) - NAMED_AT_MOST} more")

    def move(self, doing: str, done: int, total: int, told: str = "") -> None:
        """Bring the bar up to date; what is done anew gets a new one in its place."""
        if self.row is None or doing != self.doing:
            if self.row is not None:
                self.bars.remove_task(self.row)
            self.row, self.doing = self.bars.add_task(doing, total=total, told=told), doing
        self.bars.update(self.row, completed=done, total=total, told=told)
