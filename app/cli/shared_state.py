"""State that forked processes share: the files that none has taken yet, and a semaphore."""

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import NamedTuple

FORK = multiprocessing.get_context("fork")


class Batch(NamedTuple):
    """Files that run together, and the place of the first one among all files."""

    start: int
    files: Sequence[Path]


class Batches:
    """Divides files into batches; each thread or process takes the next one.

    They come in rounds of a batch for each worker, and the batches of a round have the same size.
    Only the last round is smaller, because the first run of each size takes longer.

    Args:
        files: all files.
        workers: the number of threads or processes.

    Attributes:
        total: number of files.
    """

    def __init__(self, files: Sequence[Path], workers: int) -> None:
        self.total = len(files)
        self._files = files
        self._workers = workers
        self._lock = FORK.Lock()
        self._size = FORK.RawValue("q", 1)
        self._taken = FORK.RawValue("q", 0)  # files
        self._round = FORK.RawValue("q", 0)  # batches of the round that are not taken
        self._share = FORK.RawValue("q", 0)  # files of each batch of the round

    @property
    def size(self) -> int:
        """Most files of a batch; any worker may change it."""
        return int(self._size.value)

    @size.setter
    def size(self, size: int) -> None:
        self._size.value = size

    @property
    def taken(self) -> int:
        """Number of files that were taken."""
        return int(self._taken.value)

    def take(self) -> Batch | None:
        """Take the next batch; None if there is no file left."""
        with self._lock:
            start, left = self.taken, self.total - self.taken
            if not left:
                return None
            if not self._round.value:
                self._share.value = ceil(min(self.size, left / self._workers))
                self._round.value = self._workers
            self._round.value -= 1
            self._taken.value += min(self._share.value, left)
            return Batch(start, self._files[start : self.taken])


class SharedSemaphore:
    """A semaphore with amounts for threads and processes: their sum is at most `size`.

    One request at a time waits for its amount, and the others wait behind it, so small amounts
    cannot overtake a large one. For threads alone there is `app.imaging.pixel_budget`.

    Args:
        size: the largest sum of the amounts.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._turn = FORK.Lock()  # of the one that waits until its amount fits
        self._changed = FORK.Condition()
        self._held = FORK.RawValue("q", 0)

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until the amount fits, and hold it in the `with` block.

        An amount larger than `size` counts as `size`.
        """
        amount = min(amount, self._size)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._held.value + amount <= self._size)
            self._held.value += amount
        try:
            yield
        finally:
            with self._changed:
                self._held.value -= amount
                self._changed.notify()
