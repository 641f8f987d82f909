"""A batch that is sent to a lane and accepts entries until the lane starts it."""

import asyncio
import time
from collections.abc import Hashable
from math import inf
from threading import Lock
from typing import Any, Generic, TypeVar

from app.batching.entry import Entry
from app.core.errors import DeadlineExceeded, Internal, ServiceError

Item = TypeVar("Item")
Result = TypeVar("Result")


class OpenBatch(Generic[Item, Result]):
    """Entries with an equal key. The event loop adds entries until the lane closes the batch.

    So a lane has its next batch at hand and is not idle between batches, and the batch is still
    composed as late as possible.

    Args:
        key: the common key of the entries.
        narrow: whether the batch is for a narrow lane.

    Attributes:
        entries: all entries that were added; after `close`, only the entries that the lane runs.
        deadline: the nearest deadline of the entries, on the clock of the event loop, in seconds.
        started: when the lane started the batch, on the monotonic clock, in seconds; None before.
    """

    def __init__(self, key: Hashable, *, narrow: bool) -> None:
        self.key = key
        self.narrow = narrow
        self.entries: list[Entry[Item, Result]] = []
        self.deadline = inf
        self.started: float | None = None
        self._expired: list[Entry[Item, Result]] = []
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry[Item, Result]) -> bool:
        """Add an entry; False if the lane has started the batch."""
        with self._lock:
            if self.started is None:
                self.entries.append(entry)
                self.deadline = min(self.deadline, entry.deadline)
            return self.started is None

    def close(self) -> list[Item]:
        """Close the batch, on the lane's thread.

        Returns:
            The items to run, without items of disconnected clients and items past their deadline.
        """
        with self._lock:
            self.started = now = time.monotonic()
            self._expired = [entry for entry in self.entries if entry.deadline <= now]
            self.entries = [
                entry for entry in self.entries if entry.deadline > now and not entry.future.done()
            ]
            return [entry.item for entry in self.entries]

    def deliver(self, future: asyncio.Future[Any]) -> None:
        """Set each entry's own result, or the same error for all if the batch has failed.

        Args:
            future: is done; has a result or an exception for each entry, in order.
        """
        for entry in self._expired:
            entry.fail(DeadlineExceeded("the deadline passed in the queue"))
        for entry in self.entries:
            self._describe(entry)
        if future.cancelled():
            return  # the batcher was closed and has failed every entry
        for entry, result in zip(self.entries, self._results(future), strict=True):
            _set_result(entry, result)

    def settle(self, item: Item, result: Any) -> None:
        """Set the result of one item before the batch is done."""
        for entry in self.entries:
            if entry.item is item:
                self._describe(entry)
                _set_result(entry, result)

    def completed(self, future: asyncio.Future[Any]) -> int:
        """The number of entries that have a result, and no error."""
        if future.cancelled() or future.exception() is not None:
            return 0
        return sum(not isinstance(result, BaseException) for result in future.result())

    def _describe(self, entry: Entry[Item, Result]) -> None:
        entry.batch_size = len(self.entries)
        if self.started is not None:
            entry.started = self.started

    def _results(self, future: asyncio.Future[Any]) -> list[Any]:
        try:
            return [result for _, result in zip(self.entries, future.result(), strict=True)]
        except Exception as error:  # noqa: BLE001  # the requests get it
            return [error] * len(self.entries)


def _set_result(entry: Entry[Item, Result], result: Any) -> None:
    if isinstance(result, BaseException):
        entry.fail(result if isinstance(result, ServiceError) else _internal(result))
    elif not entry.future.done():
        entry.future.set_result(result)


def _internal(cause: BaseException) -> Internal:
    error = Internal("the image could not be run")
    error.__cause__ = cause
    return error
