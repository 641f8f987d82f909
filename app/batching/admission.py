"""Owns who is let in: places in the queue, the predicted wait, and the refusal with its reason.

Knows nothing of batches; whoever runs them tells how long an item takes.
"""

import asyncio
import random
from bisect import bisect_right, insort
from collections.abc import Sequence
from math import inf
from operator import attrgetter
from types import TracebackType
from typing import Self

from app.core.errors import DeadlineExceeded, Overloaded

SAFETY_FACTOR = 1.1  # of a predicted wait: what is admitted shall be answered
MAX_SAFETY_FACTOR = 2.0
MISSED_STEP = 0.02  # of the margin: what a missed deadline adds to it
MET_STEP = 0.001  # of what was added: what a kept one takes away again
LEAST_RETRY_S = 0.05
JITTER = 1.5  # at most: those who were refused together shall not come back together

by_deadline = attrgetter("deadline")


class Ticket:
    """A place in the queue, taken before the image is decoded and given back on leaving the `with`.

    Attributes:
        deadline: on the clock of the running loop, in seconds.
        began: when the lane took its batch, on the monotonic clock, in seconds; 0 before it.
        batch_size: how many items shared that batch; 0 before it.
    """

    def __init__(
        self, admission: "AdmissionController", deadline: float, *, predicted: bool = False
    ) -> None:
        self.deadline = deadline
        self.began = 0.0
        self.batch_size = 0
        self._admission = admission
        self._predicted = predicted
        self._waits = True
        self._runs = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._predicted and (self._waits or self._runs):
            self._learn(error)
        self.give_back()

    def _learn(self, error: BaseException | None) -> None:
        """Tell whether the deadline that the prediction promised was kept."""
        now = asyncio.get_running_loop().time()
        if isinstance(error, DeadlineExceeded) or now >= self.deadline:
            self._admission.on_deadline_missed()
        elif self._runs and error is None:
            self._admission.on_deadline_met()

    def run(self) -> None:
        """Free the place in the queue: a batch has the item now."""
        if self._waits:
            self._admission.queued.remove(self)
            self._admission.running += 1
            self._waits, self._runs = False, True

    def give_back(self) -> None:
        """Free whatever the ticket holds; harmless when it holds nothing any more."""
        if self._waits:
            self._admission.queued.remove(self)
        elif self._runs:
            self._admission.running -= 1
        self._waits = self._runs = False


class AdmissionController:
    """The places of one queue, which is served by deadline.

    Who comes is admitted if by the prediction they are answered in time, and all who were admitted
    before them still are: the test of earliest-deadline-first scheduling (Liu and Layland, 1973),
    made on arrival.

    Args:
        max_queue_size: places at most, the items that are still being decoded included.

    Attributes:
        queued: the tickets whose items wait or are being decoded, the nearest deadline first.
        running: the items that are in batches.
        seconds_per_item: the time between two items when many wait.
        batch_s: the seconds of the batch that an item is then in.
        safety_factor: what a predicted wait is multiplied by; more where deadlines are missed.
    """

    def __init__(self, max_queue_size: int) -> None:
        self.max_queue_size = max_queue_size
        self.queued: list[Ticket] = []
        self.running = 0
        self.seconds_per_item = self.batch_s = 0.0
        self.safety_factor = SAFETY_FACTOR

    @property
    def depth(self) -> int:
        """Places taken: items admitted and not yet in a batch."""
        return len(self.queued)

    @property
    def full(self) -> bool:
        """Whether there is no place left."""
        return self.depth >= self.max_queue_size

    def predicted_wait(self, deadline: float = inf) -> float:
        """Seconds until an item admitted now with such a deadline would be done."""
        return self._wait(self._before(deadline))

    def reserve(self, deadline: float) -> Ticket:
        """Take a place in the queue.

        Args:
            deadline: on the clock of the loop, in seconds.

        Raises:
            Overloaded: the queue is full, or somebody would be late.
        """
        if self.full:
            raise _overloaded("the queue is full", self.predicted_wait())
        before = self._before(deadline)
        wait = self._wait(before)
        ends = asyncio.get_running_loop().time() + self.safety_factor * wait
        # an idle service lets the deadline decide: no measurement is to refuse what it could do
        predicted = before > 0
        if predicted and ends > deadline:
            raise _overloaded("the predicted wait passes the deadline", wait)
        if self._delays(self.queued[before - self.running :], ends):
            detail = "somebody who was admitted earlier would miss a deadline"
            raise _overloaded(detail, self.predicted_wait())
        ticket = Ticket(self, deadline, predicted=predicted)
        insort(self.queued, ticket, key=by_deadline)
        return ticket

    def on_deadline_missed(self) -> None:
        """Know that somebody was let in by a prediction that did not hold."""
        self.safety_factor = min(MAX_SAFETY_FACTOR, (1 + MISSED_STEP) * self.safety_factor)

    def on_deadline_met(self) -> None:
        """Know that one did."""
        self.safety_factor -= MET_STEP * (self.safety_factor - SAFETY_FACTOR)

    def _before(self, deadline: float) -> int:
        """How many are served before an item with such a deadline."""
        return self.running + bisect_right(self.queued, deadline, key=by_deadline)

    def _wait(self, before: int) -> float:
        return before * self.seconds_per_item + self.batch_s

    def _delays(self, behind: Sequence[Ticket], ends: float) -> bool:
        """Whether one more before these makes one late who is not late anyway.

        Without the new one the first of them would be done at `ends`.
        """
        each = self.safety_factor * self.seconds_per_item
        for ticket in behind:
            if ends <= ticket.deadline < ends + each:
                return True
            ends += each
        return False


def _overloaded(detail: str, wait: float) -> Overloaded:
    jittered = max(wait, LEAST_RETRY_S) * random.uniform(1.0, JITTER)  # noqa: S311  # spreads retries
    return Overloaded(detail, retry_after_s=jittered)
