"""Owns the line of those who wait for a batch: in the order of their deadlines, without the lost.

Knows nothing of lanes, nor of how many a batch takes.
"""

import asyncio
from bisect import insort
from collections.abc import Hashable, Iterator
from math import inf
from operator import attrgetter
from typing import Generic, TypeVar

from app.batching.batch import Entry, OpenBatch, reject
from app.core.errors import DeadlineExceeded

Item = TypeVar("Item")
Result = TypeVar("Result")

by_deadline = attrgetter("ticket.deadline")


class RequestQueue(Generic[Item, Result]):
    """Those who wait, the most urgent first; who has left or is late stays until their turn."""

    def __init__(self) -> None:
        self._waiting: list[Entry[Item, Result]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Entry[Item, Result]]:
        return iter(self._waiting)

    @property
    def urgency(self) -> float:
        """The nearest deadline; infinite where nobody waits."""
        return self._waiting[0].deadline if self._waiting else inf

    def oldest_age(self) -> float:
        """Seconds that the earliest has waited."""
        now = asyncio.get_running_loop().time()
        return max((now - waiting.since for waiting in self._waiting), default=0.0)

    def push(self, waiting: Entry[Item, Result]) -> None:
        """Let one more wait, behind all who are as urgent."""
        insort(self._waiting, waiting, key=by_deadline)

    def remove(self, waiting: Entry[Item, Result]) -> None:
        """Let one wait no more, if it does."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def clear(self) -> None:
        """Let nobody wait any more."""
        self._waiting.clear()

    def peek(self, now: float) -> Entry[Item, Result] | None:
        """The most urgent one; before, who has left is dropped, and who is late is told so.

        Args:
            now: on the clock of the loop, in seconds.
        """
        while self._waiting:
            first = self._waiting[0]
            if not first.answer.done():
                if first.deadline > now:
                    return first
                reject(first.answer, DeadlineExceeded("the deadline passed in the queue"))
            del self._waiting[0]
        return None

    def expire_unservable(self, enough: int, seconds: float) -> None:
        """Tell those with less time left that they are late, as long as more than enough wait.

        To serve them by ever smaller batches would slow the queue down until everyone is late.
        """
        ends = asyncio.get_running_loop().time() + seconds
        while len(self._waiting) > enough and self._waiting[0].deadline < ends:
            late = DeadlineExceeded("there was no time left to compute it")
            reject(self._waiting.pop(0).answer, late)

    def fill(self, batch: OpenBatch[Item, Result], key: Hashable, count: int) -> None:
        """Let the most urgent ones with a key join a batch, so many at most, until it begins."""
        stay: list[Entry[Item, Result]] = []
        for place, waiting in enumerate(self._waiting):
            if waiting.answer.done():
                continue
            if waiting.key != key:
                stay.append(waiting)
            elif count > 0 and batch.add(waiting):
                waiting.ticket.run()
                count -= 1
            else:
                stay += self._waiting[place:]
                break
        self._waiting = stay
