"""Admission control: queue places, predicted waits, and refusals with `Retry-After`."""

import asyncio
import random
from collections.abc import Sequence
from typing import Generic, TypeVar

from app.batching.request_queue import Entry, RequestQueue
from app.core.errors import Overloaded

SAFETY_FACTOR = 1.1  # of a predicted wait, so that admitted images meet their deadlines
MIN_RETRY_S = 0.05
MAX_JITTER = 1.5  # spreads Retry-After, so that refused clients do not return at the same time

Item = TypeVar("Item")
Result = TypeVar("Result")


class AdmissionController(Generic[Item, Result]):
    """Admits images to a queue that is served by deadline.

    An image is admitted if, by the prediction, it meets its deadline and so do all images that were
    admitted before: the test of earliest-deadline-first scheduling (Liu and Layland, 1973) on
    arrival.

    Args:
        queue: the queue that admitted images enter.
        max_queue_size: most entries in the queue, including images that are still being decoded.

    Attributes:
        seconds_per_item: predicted time between two results under load.
        batch_s: predicted duration of the batch that runs an image.
    """

    def __init__(self, queue: RequestQueue[Item, Result], max_queue_size: int) -> None:
        self.max_queue_size = max_queue_size
        self.seconds_per_item = self.batch_s = 0.0
        self._queue = queue

    @property
    def full(self) -> bool:
        """Whether the queue has no free place."""
        return len(self._queue) >= self.max_queue_size

    def predicted_wait(self) -> float:
        """Seconds until an image would be done that is admitted now, behind all others."""
        return self._wait(self._queue.running + len(self._queue))

    def reserve(self, deadline: float) -> Entry[Item, Result]:
        """Add an entry to the queue.

        Args:
            deadline: on the clock of the event loop, in seconds.

        Raises:
            Overloaded: the queue is full, or a deadline would be missed.
        """
        if self.full:
            raise _overloaded("the queue is full", self.predicted_wait())
        queued_before, after = self._queue.split(deadline)
        before = self._queue.running + queued_before
        wait = self._wait(before)
        done = asyncio.get_running_loop().time() + SAFETY_FACTOR * wait
        # an idle service refuses no image because of a measurement: the deadline itself decides
        if before > 0 and done > deadline:
            raise _overloaded("the predicted wait passes the deadline", wait)
        if after and self._delays(after, done):
            detail = "a request that was admitted earlier would miss its deadline"
            raise _overloaded(detail, self.predicted_wait())
        entry = Entry(self._queue, deadline)
        self._queue.push(entry)
        return entry

    def _wait(self, before: int) -> float:
        return before * self.seconds_per_item + self.batch_s

    def _delays(self, entries: Sequence[Entry[Item, Result]], done: float) -> bool:
        """Whether one more image before these entries makes an entry late that is in time now.

        Without the new image the first entry would be done at `done`.
        """
        each = SAFETY_FACTOR * self.seconds_per_item
        for entry in entries:
            if done <= entry.deadline < done + each:
                return True
            done += each
        return False


def _overloaded(detail: str, wait: float) -> Overloaded:
    jitter = random.uniform(1.0, MAX_JITTER)  # noqa: S311  # it only spreads retries
    return Overloaded(detail, retry_after_s=max(wait, MIN_RETRY_S) * jitter)
