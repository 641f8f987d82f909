"""Owns a bounded amount that threads share, such as the pixels decoded at the same time.

Knows nothing of what is held.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class WeightedSemaphore:
    """A weighted semaphore: each thread holds an amount, all of them together at most `size`.

    First come, first served: a large amount is not overtaken by small ones for ever.

    Args:
        size: what may be held at the same time.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    @property
    def held(self) -> int:
        """What is held now."""
        return self._held

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._waiting)

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Hold the amount, waiting until it fits; one larger than the budget waits to be alone.

        A thread that holds some must not wait for more: it might wait for itself.
        """
        amount = min(amount, self.size)
        granted = threading.Event()
        with self._lock:
            self._waiting.append((amount, granted))
            self._grant()
        granted.wait()
        try:
            yield
        finally:
            with self._lock:
                self._held -= amount
                self._grant()

    def _grant(self) -> None:
        while self._waiting and self._held + self._waiting[0][0] <= self.size:
            amount, granted = self._waiting.popleft()
            self._held += amount
            granted.set()
