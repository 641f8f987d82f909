"""A weighted semaphore, which bounds the decoded pixels that all lanes hold at the same time."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WAIT_S = 1.0  # between two calls of `on_wait`


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
        """The number of amounts that wait."""
        return len(self._queue)

    @contextmanager
    def hold(self, amount: int, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Wait until the amount fits, and hold it in the `with` block.

        An amount larger than `size` counts as `size`. A thread that holds an amount must not ask
        for another: it could wait for itself.

        Args:
            amount: to hold.
            on_wait: called every `WAIT_S` seconds while the thread waits, for example to report
                that it is not stuck; it must not raise.
        """
        granted = threading.Event()
        amount = min(amount, self.size)
        with self._lock:
            self._queue.append((amount, granted))
            self._grant()
        while not granted.wait(WAIT_S):
            on_wait()
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
