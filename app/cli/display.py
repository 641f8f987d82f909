"""What a command on many images prints: results, errors, a progress bar and a summary."""

import sys
import time
from io import TextIOWrapper
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from app.cli.console import printable
from app.core.process import age_s


class Display:
    """Prints results on standard output, and the rest on standard error.

    The progress bar is shown on a terminal, for more than one image. A summary is printed for more
    than one image.

    Args:
        total: number of images.

    Attributes:
        done: number of images that have an answer or have failed.
        failed: number of images that have failed.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = self.failed = 0
        self._console = Console(stderr=True)
        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,} of {task.total:,} images"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            disable=total < 2 or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, rate="")
        self._ready_at = self._last_at = time.monotonic()
        self._startup_s: float | None = None

    def __enter__(self) -> Self:
        if isinstance(sys.stdout, TextIOWrapper):  # a name may have bytes that are not text
            sys.stdout.reconfigure(errors="backslashreplace")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def ready(self) -> None:
        """Start the clock and the bar: the model is loaded, and its download has ended."""
        self._ready_at = self._last_at = time.monotonic()
        self._startup_s = age_s()
        self._bar.start()

    def advance(self, failure: str = "") -> None:
        """Count an image; `failure` is printed."""
        self.done += 1
        self._last_at = time.monotonic()
        if failure:
            self.failed += 1
            self._print(failure, sys.stderr)
        if not self._bar.disable:
            self._bar.update(self._task, completed=self.done, rate=self._rate())

    def print(self, text: str) -> None:
        """Print lines of a result; the text has no line end at its end.

        Raises:
            OSError: standard output is closed.
        """
        self._print(text, sys.stdout)

    def summary(self) -> str:
        """The number of images, the time from the loaded model to the last answer, and failures."""
        if self.total < 2:
            return ""
        seconds = self._last_at - self._ready_at
        parts = [f"{self.done:,} images in {seconds:.2f} s ({self._rate()})"]
        if self._startup_s is not None:
            parts.append(f"start-up {self._startup_s:.1f} s")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return ", ".join(parts)

    def _rate(self) -> str:
        return f"{self.done / max(self._last_at - self._ready_at, 1e-9):,.1f} images/s"

    def _print(self, text: str, stream: TextIO) -> None:
        terminal = stream.isatty()
        if terminal:
            text = printable(text)
        if terminal and not self._bar.disable:  # above the bar
            self._console.print(text, soft_wrap=True, markup=False, emoji=False, highlight=False)
        else:
            stream.write(f"{text}\n")
            stream.flush()
