"""Owns a batch that was sent to a lane: it takes more items until the lane begins with it.

Knows nothing of queues, nor of what is done with the items.
"""

import asyncio
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from math import inf
from threading import Lock
from typing import Any, Generic, TypeVar

from app.batching.admission import Ticket
from app.core.errors import DeadlineExceeded, Internal, ServiceError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class Entry(Generic[Item, Result]):
    """One item in the queue and the future that its caller awaits."""

    item: Item
    key: Hashable
    since: float
    answer: asyncio.Future[Result]
    ticket: Ticket

    @property
    def deadline(self) -> float:
        """On the clock of the loop, in seconds."""
        return self.ticket.deadline


def deliver(answers: list[asyncio.Future[Result]], future: asyncio.Future[Any]) -> None:
    """Give everyone their own result; to all the same error when there is not one for each."""
    if future.cancelled():
        return  # the queue was closed, and has told them
    try:
        pairs = list(zip(answers, future.result(), strict=True))
    except Exception as error:  # noqa: BLE001  # it belongs to the callers, not to the queue
        pairs = [(answer, error) for answer in answers]
    for answer, result in pairs:
        if not isinstance(result, BaseException):
            if not answer.done():
                answer.set_result(result)
        else:
            reject(answer, result if isinstance(result, ServiceError) else _internal(result))


def reject(answer: asyncio.Future[Result], error: Exception) -> None:
    """Settle with an error whoever is not settled yet."""
    if not answer.done():
        answer.set_exception(error)


def _internal(cause: BaseException) -> Internal:
    error = Internal("the image could not be computed")
    error.__cause__ = cause
    return error


class OpenBatch(Generic[Item, Result]):
    """Items with an equal key; the loop adds to them, and the lane takes what is there by then.

    So a lane that is given a batch while it runs another never idles, and yet the batch is
    composed last.

    Attributes:
        key: what the items have in common.
        narrow: whether it was sent to a narrow lane.
        deadline: of the most urgent member, on the clock of the loop, in seconds.
        members: the items with their callers; once it has begun, those that it runs.
        began: when the lane took it, on the monotonic clock, in seconds; None before.
    """

    def __init__(
        self, key: Hashable, members: Iterable[Entry[Item, Result]], *, narrow: bool
    ) -> None:
        self.key = key
        self.narrow = narrow
        self.members = list(members)
        self.deadline = min((waiting.deadline for waiting in self.members), default=inf)
        self.began: float | None = None
        self._late: list[Entry[Item, Result]] = []
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.members)

    def add(self, waiting: Entry[Item, Result]) -> bool:
        """Take one more; False where the lane has begun."""
        with self._lock:
            if self.began is None:
                self.members.append(waiting)
                self.deadline = min(self.deadline, waiting.deadline)
            return self.began is None

    def close(self) -> list[Item]:
        """Close the batch, on the lane, without those who left or whose deadline has passed."""
        with self._lock:
            self.began = now = time.monotonic()
            self._late = [one for one in self.members if one.deadline <= now]
            self.members = [
                one for one in self.members if one.deadline > now and not one.answer.done()
            ]
            return [waiting.item for waiting in self.members]

    def deliver(self, future: asyncio.Future[Any]) -> None:
        """Give everyone what the future has for them, once it is done."""
        for waiting in self._late:
            reject(waiting.answer, DeadlineExceeded("the deadline passed in the queue"))
        for waiting in self.members:
            waiting.ticket.batch_size = len(self.members)
            if self.began is not None:
                waiting.ticket.began = self.began
        deliver([waiting.answer for waiting in self.members], future)
