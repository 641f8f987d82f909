"""Admission control: queue places, predicted waits, and refusals with `Retry-After`."""

import asyncio
import random
from collections.abc import Sequence
from typing import Generic, TypeVar

from app.batching.costs import MovingAverage
from app.batching.request_queue import Entry, RequestQueue
from app.core.errors import DeadlineExceeded, Overloaded

SAFETY_FACTOR = 1.1  # of a predicted wait, so that admitted images meet their deadlines
MAX_SAFETY_FACTOR = 2.0
MISSED_STEP = 0.02  # relative growth of the safety factor after a missed deadline
MET_WEIGHT = 0.001  # of one met deadline, which moves the factor towards SAFETY_FACTOR
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
        safety_factor: factor of a predicted wait; it grows when admitted images miss deadlines.
    """

    def __init__(self, queue: RequestQueue[Item, Result], max_queue_size: int) -> None:
        self.max_queue_size = max_queue_size
        self.seconds_per_item = self.batch_s = 0.0
        self.safety_factor = MovingAverage(SAFETY_FACTOR, MET_WEIGHT)
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
        done = asyncio.get_running_loop().time() + self.safety_factor.value * wait
        # an idle service refuses no image because of a measurement: the deadline itself decides
        predicted = before > 0
        if predicted and done > deadline:
            raise _overloaded("the predicted wait passes the deadline", wait)
        if after and self._delays(after, done):
            detail = "a request that was admitted earlier would miss its deadline"
            raise _overloaded(detail, self.predicted_wait())
        entry = Entry(self._queue, deadline, self._learn if predicted else None)
        self._queue.push(entry)
        return entry

    def on_deadline_missed(self) -> None:
        """Raise the safety factor: an admitted image was late."""
        raised = (1 + MISSED_STEP) * self.safety_factor.value
        self.safety_factor.value = min(MAX_SAFETY_FACTOR, raised)

    def on_deadline_met(self) -> None:
        """Lower the safety factor a little: an admitted image was in time."""
        self.safety_factor.add(SAFETY_FACTOR)

    def _learn(self, entry: Entry[Item, Result], error: BaseException | None) -> None:
        """Compare the outcome of an entry with the prediction that admitted it."""
        late = asyncio.get_running_loop().time() >= entry.deadline
        if late or isinstance(error, DeadlineExceeded):
            self.on_deadline_missed()
        elif error is None and entry.state == "running":
            self.on_deadline_met()

    def _wait(self, before: int) -> float:
        return before * self.seconds_per_item + self.batch_s

    def _delays(self, entries: Sequence[Entry[Item, Result]], done: float) -> bool:
        """Whether one more image before these entries makes an entry late that is in time now.

        Without the new image the first entry would be done at `done`.
        """
        each = self.safety_factor.value * self.seconds_per_item
        for entry in entries:
            if done <= entry.deadline < done + each:
                return True
            done += each
        return False


def _overloaded(detail: str, wait: float) -> Overloaded:
    jitter = random.uniform(1.0, MAX_JITTER)  # noqa: S311  # it only spreads retries
    return Overloaded(detail, retry_after_s=max(wait, MIN_RETRY_S) * jitter)
