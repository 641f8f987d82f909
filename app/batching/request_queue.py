"""The queue of one model: admitted images in deadline order, until a batch takes them."""

import asyncio
from bisect import bisect_right, insort
from collections.abc import Callable, Hashable, Sequence
from math import inf
from operator import attrgetter
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar

from app.core.errors import DeadlineExceeded

Item = TypeVar("Item")
Result = TypeVar("Result")

State = Literal["decoding", "waiting", "running", "done"]

by_deadline = attrgetter("deadline")


class Entry(Generic[Item, Result]):
    """One admitted image. Leaving its `with` block removes it from the queue.

    Args:
        queue: the queue that it is pushed to.
        deadline: on the clock of the event loop, in seconds.

    Attributes:
        state: `decoding` until the item is there, `waiting` until a batch takes it, `running` in a
            batch, `done` when it has finished or expired or its client has disconnected.
        item: input of the batch; like `key`, `since` and `future`, not set while decoding.
        key: entries of one batch have equal keys.
        since: start of the wait for a batch, on the clock of the event loop, in seconds.
        future: the result.
        started: when a lane started the batch, on the monotonic clock, in seconds; 0 before that.
        batch_size: number of entries in the batch; 0 before it has run.
    """

    item: Item
    key: Hashable
    since: float
    future: asyncio.Future[Result]

    def __init__(self, queue: "RequestQueue[Item, Result]", deadline: float) -> None:
        self.deadline = deadline
        self.state: State = "decoding"
        self.started = 0.0
        self.batch_size = 0
        self._queue = queue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.remove(self)

    def fail(self, error: Exception) -> None:
        """Set an error as the result, unless the future is already done."""
        if not self.future.done():
            self.future.set_exception(error)


class RequestQueue(Generic[Item, Result]):
    """The admitted images of one model; its length is the number of places taken.

    There is a list of the entries in `decoding` and a list of the entries in `waiting`, both by
    deadline: batching takes no longer when many images are being decoded. A waiting entry with a
    future that is done (its client disconnected) stays until its `with` block ends or batching
    reaches it.

    Attributes:
        waiting: the entries in `waiting`, most urgent first; to be read only.
        running: number of entries in `running`.
    """

    def __init__(self) -> None:
        self.waiting: list[Entry[Item, Result]] = []
        self.running = 0
        self._decoding: list[Entry[Item, Result]] = []

    def __len__(self) -> int:
        return len(self._decoding) + len(self.waiting)

    @property
    def urgency(self) -> float:
        """The nearest deadline of the waiting entries; infinite if there are none."""
        return self.waiting[0].deadline if self.waiting else inf

    def oldest_age(self) -> float:
        """Seconds since the first of the waiting entries became ready; 0 if there are none."""
        now = asyncio.get_running_loop().time()
        return max((now - entry.since for entry in self.waiting), default=0.0)

    def split(self, deadline: float) -> tuple[int, Sequence[Entry[Item, Result]]]:
        """The number of entries before a new one with this deadline, and the entries after it."""
        place = bisect_right(self.waiting, deadline, key=by_deadline)
        after = self.waiting[place:]
        if self._decoding:
            decoding = bisect_right(self._decoding, deadline, key=by_deadline)
            place += decoding
            after += self._decoding[decoding:]
            after.sort(key=by_deadline)
        return place, after

    def push(self, entry: Entry[Item, Result]) -> None:
        """Add a new entry, which is in `decoding`."""
        insort(self._decoding, entry, key=by_deadline)

    def set_ready(self, entry: Entry[Item, Result], item: Item, key: Hashable) -> None:
        """Let batches take an entry: its item is decoded."""
        loop = asyncio.get_running_loop()
        entry.item, entry.key, entry.since = item, key, loop.time()
        entry.future = loop.create_future()
        self._decoding.remove(entry)
        entry.state = "waiting"
        insort(self.waiting, entry, key=by_deadline)

    def remove(self, entry: Entry[Item, Result]) -> None:
        """Set an entry to `done`, in whatever state it is, and free its place."""
        if entry.state == "running":
            self.running -= 1
        elif entry.state == "waiting":
            self.waiting.remove(entry)
        elif entry.state == "decoding":
            self._decoding.remove(entry)
        entry.state = "done"

    def peek(self, now: float) -> Entry[Item, Result] | None:
        """The most urgent waiting entry, after removing cancelled and expired ones before it.

        Args:
            now: on the clock of the event loop, in seconds.
        """
        while self.waiting:
            first = self.waiting[0]
            if not first.future.done():
                if first.deadline > now:
                    return first
                first.fail(DeadlineExceeded("the deadline passed in the queue"))
            self.remove(first)
        return None

    def expire_unservable(self, batch_size: int, batch_s: float) -> None:
        """Fail the most urgent entries that a batch could not finish in time if it started now.

        They are failed only as long as other entries fill the batch.

        Smaller and smaller batches for such entries would slow the queue down until every entry is
        late.

        Args:
            batch_size: entries in the batch; at least as many entries stay in the queue.
            batch_s: duration of the batch, in seconds.
        """
        end = asyncio.get_running_loop().time() + batch_s
        while len(self.waiting) > batch_size and self.waiting[0].deadline < end:
            first = self.waiting[0]
            first.fail(DeadlineExceeded("not enough time was left to run the image"))
            self.remove(first)

    def fill(self, add: Callable[[Entry[Item, Result]], bool], key: Hashable, count: int) -> None:
        """Move the most urgent waiting entries with an equal key into a batch.

        Args:
            add: adds an entry to the batch; False if the batch is closed.
            key: of the batch.
            count: the most entries to move.
        """
        kept: list[Entry[Item, Result]] = []
        for place, entry in enumerate(self.waiting):
            if entry.future.done():
                entry.state = "done"
            elif entry.key != key:
                kept.append(entry)
            elif count > 0 and add(entry):
                entry.state = "running"
                self.running += 1
                count -= 1
            else:
                kept += self.waiting[place:]
                break
        self.waiting = kept
