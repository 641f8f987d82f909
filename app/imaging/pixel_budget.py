"""A weighted semaphore, which bounds the pixels that all threads decode at the same time."""

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
        self._queue: deque[tuple[int, Callable[[], object]]] = deque()

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

        A thread that holds an amount must not ask for another: it could wait for itself.

        Args:
            amount: to hold.
            on_wait: called every `WAIT_S` seconds while the thread waits, for example to report
                that it is not stuck; it must not raise.
        """
        granted = threading.Event()
        self.acquire(amount, granted.set)
        while not granted.wait(WAIT_S):
            on_wait()
        try:
            yield
        finally:
            self.release(amount)

    def acquire(self, amount: int, granted: Callable[[], object]) -> None:
        """Call `granted` once the amount fits, at once or in another thread; then it is held.

        An amount larger than `size` counts as `size`.
        """
        with self._lock:
            self._queue.append((min(amount, self.size), granted))
            ready = self._grant()
        for call in ready:
            call()

    def release(self, amount: int) -> None:
        """Give back an amount that was acquired."""
        with self._lock:
            self._held -= min(amount, self.size)
            ready = self._grant()
        for call in ready:
            call()

    def _grant(self) -> list[Callable[[], object]]:
        granted = []
        while self._queue and self._held + self._queue[0][0] <= self.size:
            amount, call = self._queue.popleft()
            self._held += amount
            granted.append(call)
        return granted
