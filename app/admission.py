"""Owns who is let in: places in the queue, the predicted wait, and the refusal with its reason.

Knows nothing of batches; whoever runs them tells how long an item takes.
"""

import asyncio
import random
from types import TracebackType
from typing import Self

from app.errors import Overloaded

SMOOTHING = 0.2  # of the measured seconds per item: the last ten batches decide


class Ticket:
    """A place in the queue, taken before the image is decoded and given back on leaving the `with`.

    Attributes:
        deadline: on the clock of the running loop, in seconds.
        queue_seconds: how long the item waited for its batch; 0 before it.
        batch_size: how many items shared that batch; 0 before it.
    """

    def __init__(self, admission: "Admission", deadline: float) -> None:
        self.deadline = deadline
        self.queue_seconds = 0.0
        self.batch_size = 0
        self._admission = admission
        self._holds_place = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Free the place; harmless when it is free already."""
        if self._holds_place:
            self._holds_place = False
            self._admission.depth -= 1


class Admission:
    """The places of one queue.

    Args:
        max_queue_size: places at most, the items that are still being decoded included.

    Attributes:
        depth: places taken: items admitted and not yet in a batch.
        seconds_per_item: the measured time between two items when many wait.
    """

    def __init__(self, max_queue_size: int) -> None:
        self.max_queue_size = max_queue_size
        self.depth = 0
        self.seconds_per_item = 0.0

    def predicted_wait(self) -> float:
        """Seconds that an item admitted now would wait, by the measured drain rate."""
        return self.depth * self.seconds_per_item

    def reserve(self, deadline: float) -> Ticket:
        """Take a place in the queue.

        Args:
            deadline: on the clock of the running loop, in seconds.

        Raises:
            Overloaded: the queue is full, or the predicted wait passes the deadline.
        """
        wait = self.predicted_wait()
        if self.depth >= self.max_queue_size:
            raise _overloaded("the queue is full", wait)
        if asyncio.get_running_loop().time() + wait > deadline:
            raise _overloaded("the predicted wait passes the deadline", wait)
        self.depth += 1
        return Ticket(self, deadline)

    def measured(self, seconds: float) -> None:
        """Know that an item of a crowd took so long."""
        before = self.seconds_per_item or seconds
        self.seconds_per_item = before + SMOOTHING * (seconds - before)


def _overloaded(detail: str, wait: float) -> Overloaded:
    jittered = max(wait, 0.05) * random.uniform(1.0, 1.5)  # noqa: S311  # only spreads retries
    return Overloaded(detail, retry_after_s=jittered)
