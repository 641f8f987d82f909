"""A weighted semaphore, which bounds the pixels that all threads decode at the same time."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class WeightedSemaphore:
    """A semaphore with amounts: the sum of the amounts that threads hold is at most `size`.

    Requests are granted in order, so small amounts cannot starve a large one.

    Args:
        size: the largest sum of the amounts.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = 0
        self._lock = threading.Lock()
        self._queue: deque[tuple[int, threading.Event]] = deque()

    @property
    def held(self) -> int:
        """The sum of the amounts that are held now."""
        return self._held

    @property
    def waiting(self) -> int:
        """The number of threads that wait."""
        return len(self._queue)

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until the amount fits, and hold it in the `with` block.

        An amount larger than `size` counts as `size`. A thread that holds an amount must not ask
        for another: it could wait for itself.
        """
        amount = min(amount, self.size)
        granted = threading.Event()
        with self._lock:
            self._queue.append((amount, granted))
            self._grant()
        granted.wait()
        try:
            yield
        finally:
            with self._lock:
                self._held -= amount
                self._grant()

    def _grant(self) -> None:
        while self._queue and self._held + self._queue[0][0] <= self.size:
            amount, granted = self._queue.popleft()
            self._held += amount
            granted.set()
